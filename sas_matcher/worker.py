"""Entry of children: ``python -m sas_matcher.worker PART PARENT REST``: core HOLDER, editors, studies, api FD."""

import os
import socket
import sys

from adapters.system import end_with_parent


def main(arguments: list[str]) -> None:
    """Run one part of the service as its parent's environment says."""
    part, parent, rest = arguments
    end_with_parent(int(parent))
    # only now: these imports take a second, in which the parent may die
    from sas_matcher.bootstrap.logs import set_up_logging  # noqa: PLC0415
    from sas_matcher.bootstrap.processes import run_api, run_core, run_editors, run_studies  # noqa: PLC0415
    from sas_matcher.config import Settings  # noqa: PLC0415

    settings = Settings.of_environment(os.environ)
    set_up_logging(settings.log_level)
    if part == "core":
        run_core(settings, rest)
    elif part == "editors":
        run_editors(settings)
    elif part == "studies":
        run_studies(settings)
    else:
        run_api(settings, socket.socket(fileno=int(rest)))


if __name__ == "__main__":
    main(sys.argv[1:])
