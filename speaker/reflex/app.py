"""`crier-speaker`: from the command line to the reflex, first process of the pod.

The planner takes longest to be ready, most of it for loading what it imports.  So it is started as soon as
the settings are known to be good, and loads while the reflex does; hence the import inside `main`.
"""

from __future__ import annotations

import os
import sys

from speaker.reflex import birth
from speaker.reflex.l2 import rights
from speaker.settings import PROGRAM, parse_or_exit


def main() -> None:
    """The program.  Exit status 0 after a stop signal, 1 when it cannot work here, 2 after bad settings."""
    settings = parse_or_exit()
    try:
        rights.check()
    except rights.NotAllowed as problem:
        sys.stderr.write(f"{PROGRAM}: {problem}\n")
        raise SystemExit(1) from None
    command = settings.planner_command or (sys.executable, "-m", "speaker.planner", *sys.argv[1:])
    try:
        first = birth.start(command, os.environ)
    except OSError:
        first = None  # the reflex tries again, and says why it cannot
    from speaker.reflex import program

    program.run(settings, command, first)


if __name__ == "__main__":
    main()
