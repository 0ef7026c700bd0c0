"""The routes, a group a module; each reads its input, asks a service, and answers."""
