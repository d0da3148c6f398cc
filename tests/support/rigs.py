"""What a plugin's own test offers the conformance suite of its kind, found by the test's name.

A plugin that must be told where the thing is it talks to has a *rig* there, so a plugin is one file and one test.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


def offered(path: Path, name: str) -> Callable[..., Any] | None:
    """The function ``name`` of the test ``path``; None where there is no such test or no such function."""
    function: Callable[..., Any] | None = getattr(_module(path), name, None) if path.exists() else None
    return function


@functools.cache
def _module(path: Path) -> ModuleType:
    """A test file as a module of its own, whether or not it is collected as well."""
    spec = importlib.util.spec_from_file_location(f"rig_of_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
