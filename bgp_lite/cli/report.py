"""Lines on stdout, for people or as JSON; never waiting for the reader."""

from __future__ import annotations

import json
import sys
import time


class Report:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._began = time.monotonic()

    def __call__(self, event: str, **fields: object) -> None:
        t = round(time.monotonic() - self._began, 6)
        if self._as_json:
            line = json.dumps({"t": t, "event": event, **fields})
        else:
            line = f"{t:10.3f}  {event}  " + "  ".join(f"{name}={value}" for name, value in fields.items())
        try:
            print(line, flush=True)
        except BrokenPipeError:
            sys.stdout = None
