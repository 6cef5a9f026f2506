#!/usr/bin/env python3
"""Makes the file system of Crier's container image: `hack/rootfs.py DIRECTORY`.

The Dockerfile copies what this makes into an empty image, and tests/image runs the programs from it, so what
is tested is what is shipped.  There is no shell and no package manager in it: Python as Debian ships it
(packages unpacked, not installed), our code, and what it imports, in the versions of constraints.txt.

It needs Debian with `apt-get update` done, and a Python 3.11 with pip and setuptools to fetch wheels with.
"""

from __future__ import annotations

import argparse
import compileall
import configparser
import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PYTHON: Final = "3.11"
SITE: Final = Path("usr/lib/python3/dist-packages")
OURS: Final = ("allocator", "bgp_lite", "crier", "memberlist", "speaker")

DEBIAN: Final = (
    "base-files", "netbase", "libc6", "libgcc-s1", "libssl3", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0",
    "liblzma5", "libuuid1", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip
"""What Python and the wheels link to, found with ldd over the finished tree."""

UNUSED_DISTRIBUTIONS: Final = (
    "aiohappyeyeballs", "aiohttp", "aiohttp_retry", "aiosignal", "frozenlist", "multidict", "propcache",
    "yarl", "tzdata", "pygments", "markdown_it_py", "mdurl", "pip", "setuptools", "wheel",
)  # fmt: skip
"""kubernetes' asyncio half needs the first eight, pydantic on Windows the ninth, rich for
source text and Markdown the next three; the rest are tools."""

UNUSED: Final = (
    # documentation, translations, character sets of other systems; /usr/share/doc/*/copyright stays
    "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/info", "usr/share/binfmts",
    "usr/share/pixmaps", "usr/share/applications", "usr/share/base-files", "usr/share/bug",
    "usr/share/python3",
    "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv", "etc/update-motd.d",
    "etc/python3.11",
    # Python's own build and test tools
    "usr/lib/python3.11/lib2to3", "usr/lib/python3.11/pydoc_data", "usr/lib/python3.11/ensurepip",
    "usr/lib/python3.11/distutils", "usr/lib/python3.11/turtle.py", "usr/lib/python3.11/unittest",
    "usr/lib/python3.11/venv",
    # the official client: all but its configuration and its connection pool (crier/kube/transport.py)
    f"{SITE}/kubernetes/aio", f"{SITE}/kubernetes/client/api", f"{SITE}/kubernetes/client/apis",
    f"{SITE}/kubernetes/client/models",
    # other libraries' tests and the parts we do not import
    f"{SITE}/bin", f"{SITE}/trio/_tests", f"{SITE}/pyroute2/ndb", f"{SITE}/pydantic/v1",
)  # fmt: skip

EMPTIED: Final = tuple(
    f"{SITE}/{name}/__init__.py"
    for name in (
        "kubernetes", "kubernetes/config", "kubernetes/utils", "kubernetes/client/models",
        "kubernetes/client/api", "urllib3/http2",
    )
)  # fmt: skip
"""Each of kubernetes' imports everything below it, which costs 0.4 s of every start and needs what is left
out; the modules that we use are imported by their full names and do not need it.  urllib3's looks for a
package that is not here, which costs 20 ms."""

USERS: Final = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
GROUPS: Final = "root:x:0:\nnobody:x:65534:\n"
OS_FILES: Final = {"etc/passwd": USERS, "etc/group": GROUPS, "etc/nsswitch.conf": "hosts: files dns\n"}

MOUNT_POINTS: Final = {
    "tmp": 0o1777, "run": 0o755, "etc/metallb": 0o755, "proc": 0o555, "sys": 0o555, "dev": 0o755,
}  # fmt: skip

LAUNCHER: Final = """#!/usr/bin/python3.11 -E
import sys
from {module} import {function}
sys.exit({function}())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where to; must not exist")
    parser.add_argument("--cache", type=Path, help="keep downloads here for the next time")
    given = parser.parse_args()
    if given.directory.exists():
        parser.error(f"{given.directory} exists")
    with tempfile.TemporaryDirectory(prefix="crier-rootfs-") as scratch:
        build(given.directory.absolute(), given.cache or Path(scratch, "cache"), Path(scratch))
    return 0


def build(root: Path, cache: Path, scratch: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    base = cache / f"base-{fingerprint()}"
    if not base.exists():
        make_base(Path(made := tempfile.mkdtemp(prefix=".base-", dir=cache)), cache)
        Path(made).chmod(0o755)
        Path(made).rename(base)
    root.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(base, root, symlinks=True)
    own(root / SITE, scratch / "own")
    launchers(root)
    sbom = root / "usr/share/crier/sbom.cdx.json"
    run(sys.executable, str(CHECKOUT / "hack" / "sbom.py"), str(root), "--out", str(sbom))
    for name in OURS:
        compile_in(root, SITE / name)
    settle(root)


def fingerprint() -> str:
    """Of what decides everything but our own code."""
    digest = hashlib.sha256()
    for name in ("setup.cfg", "constraints.txt", "hack/rootfs.py"):
        digest.update((CHECKOUT / name).read_bytes())
    return digest.hexdigest()[:16]


def make_base(root: Path, cache: Path) -> None:
    debian(root, cache / "deb")
    for name, text in OS_FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    wheels(root / SITE, cache / "pip")
    prune(root)
    compile_in(root, Path("usr/lib/python3.11"))
    compile_in(root, SITE)


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"rootfs: {' '.join(command[:4])} ... failed with status {done.returncode}")
    return done.stdout


def debian(root: Path, cache: Path) -> None:
    """Debian's packages, unpacked, and their control files where scanners of images look for them."""
    cache.mkdir(parents=True, exist_ok=True)
    run("apt-get", "-q", "download", *DEBIAN, cwd=cache)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for each in ("usr/bin", "usr/lib", "usr/sbin", "usr/lib64"):
        (root / each).mkdir(parents=True, exist_ok=True)
    for each in ("bin", "lib", "sbin", "lib64"):
        (root / each).symlink_to(f"usr/{each}")
    for name in DEBIAN:
        package = max(cache.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        archive = subprocess.run(("dpkg-deb", "--fsys-tarfile", package), stdout=subprocess.PIPE, check=True)
        unpack = ("tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root))
        subprocess.run(unpack, input=archive.stdout, check=True)
        (status / name).write_text(run("dpkg-deb", "--field", str(package)), encoding="utf-8")


def wheels(site: Path, cache: Path) -> None:
    """What setup.cfg requires, wheels only: nothing from the network runs while an image is made."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    required = config["options"]["install_requires"].split()
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
        "--root-user-action", "ignore", "--only-binary", ":all:", "--python-version", PYTHON,
        "--implementation", "cp", "--constraint", str(CHECKOUT / "constraints.txt"),
        "--cache-dir", str(cache), "--target", str(site), *required,
    )  # fmt: skip


def own(site: Path, scratch: Path) -> None:
    """Our packages and their metadata, which setuptools makes in a copy: it leaves files beside sources."""
    scratch.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, scratch)
    for name in OURS:
        shutil.copytree(CHECKOUT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(site / name, scratch / name)
    run(
        sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info",
        "--egg-base", str(site), cwd=scratch,
    )  # fmt: skip
    (site / "crier_lb.egg-info" / "SOURCES.txt").unlink()  # it names the place it was made at


def launchers(root: Path) -> None:
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    for line in config["options.entry_points"]["console_scripts"].strip().splitlines():
        name, _, place = (part.strip() for part in line.partition("="))
        module, _, function = place.partition(":")
        file = root / "usr/bin" / name
        file.write_text(LAUNCHER.format(module=module, function=function), encoding="utf-8")
        file.chmod(0o755)


def prune(root: Path) -> None:
    for name in UNUSED:
        remove(root / name)
    for name in EMPTIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("", encoding="utf-8")
    for name in UNUSED_DISTRIBUTIONS:
        drop(root / SITE, name)
    for found in sorted(root.rglob("*"), reverse=True):
        if found.name in ("__pycache__", "tests", "test") and found.is_dir() and not found.is_symlink():
            remove(found)
    for found in list((root / "usr/share/doc").rglob("*")):
        if found.is_file() and found.name != "copyright":
            found.unlink()


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def drop(site: Path, name: str) -> None:
    """One distribution, by its own record."""
    for info in site.glob(f"{name}-*.dist-info"):
        for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
            top = line.partition(",")[0].partition("/")[0]
            if top and not top.startswith(".") and top != "bin":
                remove(site / top)
        remove(info)


def compile_in(root: Path, part: Path) -> None:
    """The root is read-only later.  The octets depend on the sources alone, not on when this runs."""
    compileall.compile_dir(
        str(root / part), quiet=2, stripdir=str(root), workers=0,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip


def settle(root: Path) -> None:
    """Places to mount things at, and one time for everything."""
    for name, mode in MOUNT_POINTS.items():
        (root / name).mkdir(exist_ok=True, parents=True)
        (root / name).chmod(mode)
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    for path in (root, *root.rglob("*")):
        os.utime(path, (moment, moment), follow_symlinks=False)


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"rootfs: done in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(status)
