"""How one task tells another that there is something to do."""

from __future__ import annotations

import trio


class Bell:
    """Rings are not counted: who answers must look at everything there is to do."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Until it has rung since the last time this returned.  For one waiter."""
        await self._event.wait()
        self._event = trio.Event()
