"""Load tests: users' behaviour over HTTP and websockets, watched by an auditor. See ``__main__``."""
