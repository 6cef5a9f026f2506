"""`crier VERB ...`: one file a verb.

A verb is a module of this package with a `SUMMARY` and a `main(argv) -> int`; it is imported only when it is
asked for, so that one verb's needs are not another's.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from pathlib import Path

from crier import __version__

_EXCLUDED = frozenset({"main"})


def verbs() -> list[str]:
    """Names of all verbs, sorted."""
    here = str(Path(__file__).parent)
    return sorted(
        found.name.replace("_", "-")
        for found in pkgutil.iter_modules([here])
        if found.name not in _EXCLUDED and not found.name.startswith("_")
    )


def main(argv: list[str] | None = None) -> int:
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python must not find that out again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(__version__)
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in verbs():
        print(f"crier: no such verb: {verb}\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(_module(verb))
    return int(module.main(rest))


def _module(verb: str) -> str:
    return f"crier.cli.{verb.replace('-', '_')}"


def usage() -> str:
    lines = ["usage: crier VERB [options]", ""]
    for verb in verbs():
        summary = importlib.import_module(_module(verb)).SUMMARY
        lines.append(f"  {verb:<16}{summary}")
    return "\n".join([*lines, "", "crier VERB --help tells a verb's options."])


if __name__ == "__main__":
    sys.exit(main())
