#!/usr/bin/env bash
# Builds the image by the Dockerfile's own instructions where there is no container engine and no registry, and
# unpacks it: `hack/image.sh DIRECTORY`.  buildah carries the instructions out, in a chroot; debian:bookworm-slim,
# which cannot be pulled, is made with debootstrap.  Debian, root, some four minutes.  Then, for instance:
#     CRIER_IMAGE=DIRECTORY make test ARGS=tests/image
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "image: $*" >&2; exit 1; }

[ $# = 1 ] || die "usage: hack/image.sh DIRECTORY"
[ ! -e "$1" ] || die "$1 exists"
[ "$(id -u)" = 0 ] || die "only root can make a base image"
for tool in buildah debootstrap; do
    command -v $tool >/dev/null || PATH=$PATH:/usr/sbin command -v $tool >/dev/null || die "no $tool: apt-get install --no-install-recommends buildah debootstrap"
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
image() { buildah --storage-driver vfs --root "$scratch/images" --runroot "$scratch/run" "$@"; }

echo "image: a base image"
base=$scratch/base
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | head -n 1)
debootstrap --variant=minbase bookworm "$base" ${mirror:+"$mirror"} >"$scratch/log" 2>&1 || { tail -n 5 "$scratch/log" >&2; die "debootstrap failed"; }
# This machine's ways to Debian's packages and PyPI, proxies and authorities included, are the base image's.
: >"$base/etc/apt/sources.list"
cp -r /etc/apt/sources.list* /etc/apt/apt.conf.d "$base/etc/apt/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$base/etc/"
mkdir -p "$base/usr/local/share/ca-certificates"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$base/usr/local/share/ca-certificates/machine.crt"
made=$(image from scratch)
image add -q "$made" "$base" / >/dev/null
image commit -q --rm "$made" docker.io/library/debian:bookworm-slim >/dev/null
rm -rf "$base"

echo "image: the Dockerfile"
image bud --isolation chroot --network host --pull-never -t crier:test \
    --build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)" . >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; die "the build failed"; }
grep '^\[[12]/2\] STEP' "$scratch/log"
echo "$(image inspect --type image --format 'image: user {{.OCIv1.Config.User}}, command {{.OCIv1.Config.Cmd}}' crier:test)"
made=$(image from --pull-never localhost/crier:test)
cp -a "$(image mount "$made")" "$1"
echo "image: $(find "$1" -type f -printf '%s\n' | awk '{bytes += $1} END {print int(bytes / 1e6)}') MB in $1; it says: crier $(chroot "$1" /usr/bin/crier --version)"
