"""Routed mode by FRR: its own daemons beside us (`frr`), or those of FRR-K8s (`frr-k8s`)."""
