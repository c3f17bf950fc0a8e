"""A fake server for each test, and a client that is logged in at it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# Tests are no package; this one module is shared between them under a name that nothing else has.
_spec = importlib.util.spec_from_file_location("client_fakes", Path(__file__).with_name("fakes.py"))
assert _spec is not None
assert _spec.loader is not None
fakes = sys.modules.setdefault("client_fakes", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(fakes)
