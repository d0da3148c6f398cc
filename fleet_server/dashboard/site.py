"""The dashboard as the application has it: static files, pages, and the page for an error.

Pages are rendered on the server (``rendering.py``) and refreshed in place by a small script; charts are drawn by
ECharts. A framework of server-side widgets was not chosen, because pages on their own keep no state in the process for
an open page, allow a strict content security policy, and are readable without their script.

ECharts is installed and not loaded from elsewhere: excel-chart-echarts, a small distribution without dependencies,
contains the released file. Browsers run the file with the rights of the signed-in user, so it is served only when its
bytes are those that the ECharts project released.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from fleet_server.dashboard import demand_page, pages
from fleet_server.dashboard.rendering import STATIC, render

CHART_CARRIER, CHART_FILE = "xlsx2echarts", "static/echarts.min.js"
CHART_DIGEST = "bf4a223524e40b77c304bec67e1222cf551f14880cf42c69dc046558e11c07b1"  # SHA-256 of ECharts 5.6.0
_log = logging.getLogger(__name__)


class LongLivedFiles(StaticFiles):
    """Static files that browsers keep for a day; with ``only`` just this one file of the folder is served."""

    def __init__(self, directory: Path, only: str | None = None) -> None:
        super().__init__(directory=directory)
        self._only = only

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return super().lookup_path(path) if self._only in (None, path) else ("", None)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def install(app: FastAPI) -> None:
    """Add static files and pages to the application."""
    bundle = chart_bundle()
    if bundle is not None:
        app.mount("/static/echarts", LongLivedFiles(bundle.parent, only=bundle.name), name="echarts")
    app.mount("/static", LongLivedFiles(STATIC), name="static")
    app.include_router(pages.router)
    app.include_router(demand_page.router)
    app.state.error_page = error_page


def chart_bundle() -> Path | None:
    """The path of the ECharts file, found without importing its distribution.

    None, with a warning, when the file is missing or its bytes are not those that were released.
    """
    spec = importlib.util.find_spec(CHART_CARRIER)
    bundle = Path(spec.origin).parent / CHART_FILE if spec and spec.origin else None
    if bundle is None or not bundle.is_file():
        _log.warning("ECharts is not installed (package excel-chart-echarts): pages show tables without charts")
        return None
    if hashlib.sha256(bundle.read_bytes()).hexdigest() != CHART_DIGEST:
        _log.warning("%s is not ECharts as it was released: pages show tables without charts", bundle)
        return None
    return bundle


def error_page(request: Request, status: int, title: str) -> Response:
    """An error for people."""
    return render(request, "error.html", status=status, code=status, title=title)
