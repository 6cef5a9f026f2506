"""The API as a process: start, say so, listen where told, end at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crier.lab.api import start_api_process
from crier.lab.api.listen import ListenError, listen_in_netns, parse_endpoint
from crier.lab.api.process import ApiStartError

COMMAND = (sys.executable, "-m", "crier.lab.api")
MAPS = "/api/v1/namespaces/default/configmaps"
PATIENCE = 60.0


def get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    address = url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


@pytest.mark.e2e
def test_it_says_where_it_listens_on_stdout() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--listen", "127.0.0.1:0", "--listen", "[::1]:0"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        four, six = json.loads(process.stdout.readline())["listening"]
        assert get(four, "/healthz") == (200, b"ok")
        assert get(six, "/readyz") == (200, b"ok")
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        if process.stdout:
            process.stdout.close()


@pytest.mark.e2e
def test_sigterm_ends_it_with_watches_open() -> None:
    with start_api_process() as api, contextlib.ExitStack() as open_connections:
        address = api.url.removeprefix("http://")
        for _ in range(5):
            connection = http.client.HTTPConnection(address, timeout=PATIENCE)
            open_connections.callback(connection.close)
            connection.request("GET", f"{MAPS}?watch=true")
            open_connections.enter_context(connection.getresponse())
        api.process.send_signal(signal.SIGTERM)
        assert api.process.wait(PATIENCE) == 0


@pytest.mark.e2e
def test_it_ends_with_its_parent() -> None:
    """A parent that is killed cannot tidy up; the kernel tells the server."""
    code = (
        "import subprocess, sys, os, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'crier.lab.api', '--parent-pid', str(os.getpid())],\n"
        "                     stdout=subprocess.PIPE)\n"
        "print(p.stdout.readline().decode().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        (url,) = json.loads(parent.stdout.readline())["listening"]
        watching = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE)
        watching.request("GET", f"{MAPS}?watch=true")
        stream = watching.getresponse()
        parent.kill()
        parent.wait()
        # the server's end closes the stream; nothing else could within the socket's timeout
        with stream, contextlib.suppress(http.client.IncompleteRead, ConnectionResetError):
            assert stream.read() == b""
        watching.close()


@pytest.mark.e2e
def test_the_kubeconfig_is_private_and_leads_there() -> None:
    with start_api_process("--token", "secret=me") as api:
        assert api.kubeconfig.stat().st_mode & 0o777 == 0o600
        config = json.loads(api.kubeconfig.read_text())
        assert config["clusters"][0]["cluster"]["server"] == api.url
        assert config["users"][0]["user"] == {"token": "secret"}
        assert get(api.url, MAPS)[0] == 401
        assert get(api.url, MAPS, Authorization="Bearer wrong")[0] == 401
        assert get(api.url, MAPS, Authorization="Bearer secret")[0] == 200
        assert get(api.url, "/readyz")[0] == 200, "probes carry no token"


@pytest.mark.e2e
def test_a_process_dies_on_order() -> None:
    with start_api_process() as api:
        api.faults({"die_after": {"requests": 1, "verb": "list", "exit": True}})
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            get(api.url, MAPS)
        assert api.process.wait(PATIENCE) == 70


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "nonsense"], "'nonsense' is not HOST:PORT"),
        (["--listen", "203.0.113.1:0"], "203.0.113.1:0: "),
        (["--listen-netns", "/run/netns/none-such=127.0.0.1:0"], "/run/netns/none-such: No such file"),
        (["--token", "lonely"], "expected TOKEN=USER"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], message: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.e2e
def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(ApiStartError, match="--seed"), start_api_process("--seed", "many"):
        pass


@pytest.mark.parametrize("text", ["", "host", ":1", "h:", "h:x", "h:70000", "h:-1"])
def test_endpoints_that_are_none(text: str) -> None:
    with pytest.raises(ListenError):
        parse_endpoint(text)


def test_endpoints() -> None:
    assert parse_endpoint("10.0.0.1:6443") == ("10.0.0.1", 6443)
    assert parse_endpoint("[fd00::1]:0") == ("fd00::1", 0)


@pytest.fixture
def netns() -> Iterator[Path]:
    name = f"crierapi{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "-n", name, "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.netns
def test_a_socket_is_made_in_another_namespace(netns: Path) -> None:
    here = os.stat("/proc/self/ns/net").st_ino
    with listen_in_netns(str(netns), "192.0.2.1", 0) as sock:
        assert sock.getsockname()[0] == "192.0.2.1"
        with socket.socket() as local, pytest.raises(OSError, match="assign requested address"):
            local.bind(("192.0.2.1", 0))  # the address exists only there
    assert os.stat("/proc/self/ns/net").st_ino == here


@pytest.mark.netns
@pytest.mark.e2e
def test_one_process_serves_a_namespace_and_loopback(netns: Path) -> None:
    with start_api_process("--listen-netns", f"{netns}=192.0.2.1:0") as api:
        here, there = api.urls
        assert get(here, "/healthz") == (200, b"ok")
        fetch = f"import urllib.request as u; print(u.urlopen('{there}/healthz', timeout=30).read().decode())"
        seen = subprocess.run(
            ["ip", "netns", "exec", netns.name, sys.executable, "-c", fetch],
            capture_output=True, text=True, timeout=PATIENCE,
            env={"PATH": os.environ["PATH"], "no_proxy": "*"},
        )  # fmt: skip
        assert seen.stdout.strip() == "ok", seen.stderr
