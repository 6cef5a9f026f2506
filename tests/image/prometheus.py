"""A Prometheus of our own that has read given pages, to ask it what dashboards ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.places import free_port

PATIENCE = 60.0
NOT_YET = 503
SCRAPES = 16
STEP = 60
AGE = 4 * 3600
"""Seconds ago that the last scrape was: what is loaded comes in whole blocks of the past."""


def answers(pages: Mapping[str, str], expressions: Iterable[str], directory: Path) -> dict[str, int]:
    """How many series each expression gives after a quarter of an hour of scraping the pages, by pod."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus (Debian package) is part of the setup"
    moment = int(time.time()) - AGE
    series, data = directory / "pages.txt", directory / "data"
    series.write_text("".join(samples(pages, moment)) + "# EOF\n", encoding="utf-8")
    load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(series), str(data)]
    done = subprocess.run(load, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    (directory / "prometheus.yml").write_text("{}\n", encoding="utf-8")
    port = free_port()
    command = [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={data}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1y"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return {each: ask(port, each, moment) for each in expressions}
        finally:
            process.kill()


def samples(pages: Mapping[str, str], moment: int) -> Iterable[str]:
    for pod, page in pages.items():
        for line in page.splitlines():
            if line.startswith("#"):
                continue
            name, _, value = line.rpartition(" ")
            labelled = f'{name[:-1]},pod="{pod}"}}' if name.endswith("}") else f'{name}{{pod="{pod}"}}'
            for number in range(SCRAPES):
                yield f"{labelled} {value} {moment - STEP * (SCRAPES - 1 - number)}\n"


def ask(port: int, expression: str, moment: int) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    query = urllib.parse.urlencode({"query": expression, "time": moment})
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with opener.open(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=PATIENCE) as answer:
                return len(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as refused:
            with refused:
                if refused.code != NOT_YET:
                    raise
        except urllib.error.URLError:
            pass
        assert time.monotonic() < deadline, "Prometheus does not start"
        time.sleep(0.05)
