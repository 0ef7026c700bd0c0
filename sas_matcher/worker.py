"""Entry of the child processes: ``python -m sas_matcher.worker core`` or ``… api FD``."""

import os
import socket
import sys

from sas_matcher.bootstrap import die_with_parent, run_api, run_core, set_up_logging
from sas_matcher.config import Settings


def main(arguments: list[str]) -> None:
    """Run one part of the service as its parent's environment says."""
    die_with_parent()
    settings = Settings.of_environment(os.environ)
    set_up_logging(settings.log_level)
    if arguments[0] == "core":
        run_core(settings)
    else:
        run_api(settings, socket.socket(fileno=int(arguments[1])))


if __name__ == "__main__":
    main(sys.argv[1:])
