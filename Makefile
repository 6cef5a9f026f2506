.DEFAULT_GOAL := help
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin

.PHONY: help setup demo test lint bench generate clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup:  ## install everything the other targets need (Debian packages, .venv)
	@hack/setup.sh

demo:  ## the failover demo on a LAN of network namespaces; ARGS="--nodes 5" passes options
	@hack/setup.sh demo
	@$(PY) -m crier.cli.main demo $(ARGS)

test: setup  ## every test; ARGS="-k name" passes options to pytest
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

lint: setup  ## ruff, mypy --strict, import contracts
	ruff check .
	ruff format --check .
	mypy
	lint-imports

bench: setup  ## measurements, printed side by side with the peers that are installed
	@for b in bench/*.py; do case $$b in */__init__.py) ;; *) $(PY) $$b $(ARGS) || exit 1;; esac; done

generate: setup  ## what is made from other files: the Helm chart's, the configuration reference
	@$(PY) hack/chart_files.py
	@$(PY) hack/reference.py

clean:  ## remove what setup, tests and the demo left in the tree
	rm -rf .venv build dist *.egg-info demo-report .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
