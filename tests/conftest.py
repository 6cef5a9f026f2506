from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# a busy machine is no failure of ours
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Asked to end, as by `timeout`, we tidy up as after Ctrl-C: no program and no namespace stays behind.

    A shell's background jobs, and what they start, are born deaf to Ctrl-C; tests and programs are not.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
