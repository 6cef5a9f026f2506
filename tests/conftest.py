from __future__ import annotations

from hypothesis import settings

# a busy machine is no failure of ours
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
