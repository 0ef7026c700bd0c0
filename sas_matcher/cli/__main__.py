"""Run by ``python -m sas_matcher.cli``."""

from sas_matcher.cli import main

if __name__ == "__main__":
    main()
