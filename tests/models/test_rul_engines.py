"""Engines that spread tasks give what the serial one gives, and say what is wrong.

Begun last (``support/workers.py``): Ray gives its own processes half a minute to start, whatever else the machine does.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import operator
import warnings

import pytest

from fleet_core.errors import BadConfig
from models.rul.engines import run_tasks


@pytest.mark.parametrize("engine", ["processes", pytest.param("ray", marks=pytest.mark.integration)])
def test_engines_give_what_serial_gives(engine: str) -> None:
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    numbers, seen = [9, 3, 5, 7], []
    serial = run_tasks(numbers, math.factorial)
    assert run_tasks(numbers, math.factorial, engine, workers=2, progress=lambda *each: seen.append(each)) == serial
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(ValueError, match="negative"):
        run_tasks([-1], math.factorial, engine, workers=2)
    with warnings.catch_warnings():  # Ray ends its processes without waiting for them
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_engine_errors_name_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfig, match="serial, processes, ray"):
        run_tasks([1], operator.neg, "quantum")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadConfig, match=r"forestall\[ray\]"):
        run_tasks([1], operator.neg, "ray")


@pytest.mark.integration
def test_a_ray_that_does_not_start_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def busy(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", busy)
    with pytest.raises(BadConfig, match=r"Ray does not start: .* timed out during startup.*--engine processes"):
        run_tasks([1], operator.neg, "ray")
