#!/usr/bin/env bash
# Installs what the demo and the tests need: Debian packages and the virtual environment in .venv.
# Prints one line and exits non-zero for each thing it cannot get.  A second run takes milliseconds.
# `hack/setup.sh demo` leaves out what only the tests need: the routers and peers they speak to.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3.11}
VENV=.venv
# command -> the Debian package that has it
declare -A TOOLS=(
    [nft]=nftables [ip]=iproute2 [tcpdump]=tcpdump [arping]=arping [ndisc6]=ndisc6 [ping]=iputils-ping
    [kubectl]=kubernetes-client
)
if [ "${1:-}" != demo ]; then
    TOOLS+=([keepalived]=keepalived [bird]=bird2 [/usr/lib/frr/bgpd]=frr [gobgpd]=gobgpd [gobgp]=gobgpd [etcd]=etcd-server
            [promtool]=prometheus [capsh]=libcap2-bin [chromium]=chromium
            [runc]=runc)
fi

die() { echo "setup: $*" >&2; exit 1; }

# The stamp changes with anything that decides what gets installed, and with the place of the checkout,
# because an editable install remembers its path.
stamp=$( { pwd; cat setup.cfg pyproject.toml constraints.txt hack/setup.sh; "$PYTHON" --version; } 2>/dev/null | sha256sum | cut -d' ' -f1)
missing=()
for tool in "${!TOOLS[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${TOOLS[$tool]}")
done
if [ ${#missing[@]} -eq 0 ] && [ "$(cat $VENV/.stamp 2>/dev/null)" = "$stamp" ]; then exit 0; fi

command -v "$PYTHON" >/dev/null || PYTHON=python3
command -v "$PYTHON" >/dev/null || die "no $PYTHON: Crier needs Python 3.11 or newer (Debian package python3)"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$("$PYTHON" --version) is too old: Crier needs 3.11 or newer"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    [ "$(id -u)" = 0 ] || die "these Debian packages are missing and only root can install them: ${missing[*]}"
    command -v apt-get >/dev/null || die "no apt-get here; install by hand what provides: ${missing[*]}"
    echo "setup: installing ${missing[*]}"
    log=$(mktemp)
    # The tests start routers themselves, in namespaces of their own; none of the packages may start one here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
        trap 'rm -f $policy' EXIT
    fi
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2; rm -f "$log"
        die "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
fi

echo "setup: Python packages into $VENV"
[ -x $VENV/bin/python ] || "$PYTHON" -m venv $VENV || die "cannot make a virtual environment in $VENV"
$VENV/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
    --config-settings editable_mode=compat --editable '.[lab,dev]' ||
    die "pip could not install the Python packages named in setup.cfg"
echo "$stamp" >$VENV/.stamp
