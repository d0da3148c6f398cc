"""The chart library: installed with the server, the bytes ECharts released, and nothing else of its carrier served."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from fleet_server.dashboard import site


async def get(path: str) -> httpx.Response:
    app = FastAPI()
    site.install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://forestall.test") as http:
        return await http.get(path)


async def test_the_library_is_served_as_it_was_released() -> None:
    answer = await get("/static/echarts/echarts.min.js")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == site.CHART_DIGEST
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "Licensed to the Apache Software Foundation" in answer.text[:200]


@pytest.mark.parametrize("path", ["x2e-runtime.js", "geo/world.json", "../__init__.py", "%2e%2e/__init__.py", ""])
async def test_nothing_else_of_the_carrier_is_served(path: str) -> None:
    assert (await get(f"/static/echarts/{path}")).status_code == 404


def test_another_file_in_its_place_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = tmp_path / site.CHART_FILE
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with caplog.at_level(logging.WARNING):
        assert site.chart_bundle() is None
    assert "not installed" in caplog.text
    bundle.parent.mkdir()
    bundle.write_text("alert(1)")
    with caplog.at_level(logging.WARNING):
        assert site.chart_bundle() is None
    assert "not ECharts as it was released" in caplog.text
