"""LightGBM, loaded when it is first needed: all else here, and every other command, does without it."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from fleet_core.errors import BadConfig


@cache
def lgb() -> Any:
    """The package. Raises BadConfig where it is missing, or the system's OpenMP runtime that its library needs."""
    try:
        return importlib.import_module("lightgbm")
    except ImportError:
        raise BadConfig("LightGBM is not installed: pip install 'forestall[models]'") from None
    except OSError as error:
        raise BadConfig(f"LightGBM cannot be loaded ({error}); on Debian: apt-get install libgomp1") from None
