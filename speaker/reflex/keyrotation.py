"""The gossip key when its Secret changes while we run: no speaker stops hearing another.

Kubelets bring a changed Secret to their nodes each at a moment of its own.  So a new key is accepted as soon
as it is seen, used for what we send once everybody else must have seen it too, and the one before it is
accepted until nobody can be using it any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio

from crier.ops import logs
from memberlist import Keyring, metallb_key
from speaker.reflex import memberconfig

log = logs.get(__name__)

LOOK_INTERVAL: Final = 10.0
"""Seconds between two looks at the file."""
USE_AFTER: Final = 180.0
"""Seconds from a key's first sight to its use.  A kubelet looks once a minute, at what may be older by half
of that; twice as long, so that who missed a key because the next one came soon is not spoken to with it."""
FORGET_AFTER: Final = 720.0
"""Seconds a key is accepted that we do not use any more."""
MAX_RETIRED: Final = 8
"""Keys, beside the one used and the one to be used: somebody may write a new one every minute."""


class Rotation:
    """A core: what the file says and the time go in, the ring changes, and what was done comes out.

    `keyring` has the key of the file already, and whoever has it encrypts with the ring's primary.
    """

    def __init__(self, keyring: Keyring) -> None:
        assert keyring.primary is not None
        self._keyring = keyring
        self._wanted = keyring.primary
        self._use_at = float("inf")
        self._retired: dict[bytes, float] = {}
        """Until when each is accepted, the earliest first."""

    def seen(self, key: bytes, now: float) -> bool:
        """The key in the file now.  True when it is another than before."""
        if key == self._wanted:
            return False
        if self._wanted != self._keyring.primary:
            self._retire(self._wanted, now)
        self._wanted = key
        self._retired.pop(key, None)
        self._keyring.add(key)
        self._use_at = float("inf") if key == self._keyring.primary else now + USE_AFTER
        return True

    def tick(self, now: float) -> tuple[bool, int]:
        """Whether the newest key is used from now on; how many were forgotten."""
        used = now >= self._use_at
        if used:
            before = self._keyring.primary
            assert before is not None
            self._keyring.use(self._wanted)
            self._use_at = float("inf")
            self._retire(before, now)
        due = [key for key, until in self._retired.items() if now >= until]
        for key in due:
            self._forget(key)
        return used, len(due)

    def _retire(self, key: bytes, now: float) -> None:
        self._retired[key] = now + FORGET_AFTER
        if len(self._retired) > MAX_RETIRED:
            self._forget(next(iter(self._retired)))

    def _forget(self, key: bytes) -> None:
        del self._retired[key]
        self._keyring.remove(key)


async def follow(keyring: Keyring, file: Path) -> None:
    """For ever: keep the ring in step with the file.  One that is empty or cannot be read changes nothing."""
    rotation = Rotation(keyring)
    told = ""
    while True:
        await trio.sleep(LOOK_INTERVAL)
        secret, wrong = _read(file)
        if wrong and wrong != told:
            log.warning("gossip_key_unreadable", file=str(file), why=wrong, keys="as they were")
        told = wrong
        now = trio.current_time()
        if secret and rotation.seen(metallb_key(secret), now):
            log.info("gossip_key_seen", file=str(file), accepted="now", used_after=USE_AFTER)
        used, forgotten = rotation.tick(now)
        if used:
            log.info("gossip_key_used", old_accepted_for=FORGET_AFTER)
        if forgotten:
            log.info("gossip_keys_forgotten", count=forgotten, left=len(keyring))


def _read(file: Path) -> tuple[bytes, str]:
    """The secret, or why there is none."""
    try:
        secret = memberconfig.read(file)
    except OSError as problem:
        return b"", problem.strerror or str(problem)
    return secret, "" if secret else "it is empty"
