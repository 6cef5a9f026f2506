"""`python -m crier.lab.kube`: a real kube-apiserver with our manifests, until Ctrl-C; `--build` only makes
sure of its programs.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from crier.lab.errors import LabError, NotPossible
from crier.lab.kube.build import programs
from crier.lab.kube.install import install
from crier.lab.kube.server import start_kube


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crier.lab.kube", description=__doc__)
    parser.add_argument("--build", action="store_true", help="build the programs if need be, and do no more")
    options = parser.parse_args(arguments)
    try:
        found = programs(_say)
        if options.build:
            for program in (found.etcd, found.apiserver, found.kubectl, found.proxy):
                print(program or "no kube-proxy")
            return 0
        with start_kube(found) as kube:
            accounts = install(kube)
            print(f"export KUBECONFIG={kube.kubeconfig}")
            print(
                f"# as the controller: {accounts.controller}\n# as a speaker: {accounts.speaker}", flush=True
            )
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except NotPossible as problem:
        _say(str(problem))
        return 2
    except LabError as problem:
        _say(str(problem))
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is taken down in order
    sys.exit(main())
