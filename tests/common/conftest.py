"""Keys that are made once, and the independent implementation of the envelope."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vantage6.common.envelope import Binding, Purpose
from vantage6.common.keys import KeyPair

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="session")
def sender() -> KeyPair:
    return KeyPair.generate()


@pytest.fixture(scope="session")
def recipient() -> KeyPair:
    return KeyPair.generate()


@pytest.fixture(scope="session")
def stranger() -> KeyPair:
    return KeyPair.generate()


@pytest.fixture(scope="session")
def binding() -> Binding:
    return Binding(collaboration_id=7, task_key="task-1", sender_id=3, recipient_id=12, purpose=Purpose.INPUT)


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """tests/vectors/reference.py, which knows the page and nothing of ours."""
    spec = importlib.util.spec_from_file_location("envelope_reference", VECTORS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
