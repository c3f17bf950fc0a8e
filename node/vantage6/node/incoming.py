"""Content on its way into a file (`common/incoming.py`)."""

from vantage6.common.incoming import Incoming, check_sealed

__all__ = ["Incoming", "check_sealed"]
