"""A real kube-apiserver for the lab and the tests, with etcd behind it.

    with start_kube(programs(print)) as kube:
        install(kube)
        ...  # kube.url, kube.kubeconfig, kube.kubeconfig_of("metallb-system", "speaker")

Alone: `python -m crier.lab.kube`; to build its programs ahead of time: `python -m crier.lab.kube --build`.
"""

from crier.lab.kube.build import Programs, programs
from crier.lab.kube.server import Kube, start_kube

__all__ = ["Kube", "Programs", "programs", "start_kube"]
