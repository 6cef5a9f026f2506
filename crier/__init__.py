"""What the programs share, the command line, and the lab."""

from typing import Final

__version__: Final = "0.1.0"
"""Here and not asked of the package's metadata, which takes longer to read than anything else at a start."""
