"""Results that look real, and a browser to look at their report with."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _beside(name: str) -> ModuleType:
    """A module of this folder: tests are in no package, and its dataclasses look themselves up by name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """`made_results`, the module."""
    return _beside("made_results")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    chromium = _beside("chromium")
    program = chromium.find()
    if program is None:
        pytest.skip("chromium is not installed")
    with chromium.Browser(program) as opened:
        yield opened


@pytest.fixture(scope="session")
def scripted() -> ModuleType:
    """`scripted_memory`, the module."""
    return _beside("scripted_memory")


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """`fake_contender`, the module."""
    return _beside("fake_contender")
