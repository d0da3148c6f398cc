"""The dashboard as the application has it: static files, pages, and the page for an error.

Pages are rendered on the server (``rendering.py``) and refreshed in place by a small script, charts are ECharts. Chosen
over NiceGUI's own pages: no state per open page in the process, a strict content security policy, and every page is
readable without its script. ECharts comes as a file of the NiceGUI distribution, so nothing is loaded from elsewhere.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from fleet_server.dashboard import demand_page, pages
from fleet_server.dashboard.rendering import STATIC, render

_log = logging.getLogger(__name__)


class LongLivedFiles(StaticFiles):
    """Static files named by their content (``?v=``), so browsers keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def install(app: FastAPI) -> None:
    """Add static files and pages to the application."""
    charts = charts_folder()
    if charts is not None:
        app.mount("/static/echarts", LongLivedFiles(directory=charts), name="echarts")
    else:
        _log.warning("ECharts is not installed (package nicegui): pages show tables without charts")
    app.mount("/static", LongLivedFiles(directory=STATIC), name="static")
    app.include_router(pages.router)
    app.include_router(demand_page.router)
    app.state.error_page = error_page


def charts_folder() -> Path | None:
    """Where the ECharts bundle lies, found without importing its package."""
    spec = importlib.util.find_spec("nicegui")
    folder = Path(spec.origin).parent / "elements" / "echart" / "dist" if spec and spec.origin else None
    return folder if folder is not None and (folder / "index.js").is_file() else None


def error_page(request: Request, status: int, title: str) -> Response:
    """An error for people."""
    return render(request, "error.html", status=status, code=status, title=title)
