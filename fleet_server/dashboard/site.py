"""The dashboard's frame: templates, static files, error pages.

Pages are rendered here (Jinja) and refreshed in place by a small script, charts are ECharts. Chosen over NiceGUI's
own pages: no state per open page in the process, a strict content security policy, and every page is readable without
its script. ECharts comes as a file of the NiceGUI distribution, so nothing is loaded from elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import jinja2
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from fleet_core.assets import FAILURE_MODES
from fleet_server.api.access import session_token
from fleet_server.api.services import services_of
from fleet_server.dashboard import format as written
from fleet_server.sovereignty.roles import PERMISSIONS
from fleet_server.sovereignty.users import User, csrf_token

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
_TIMES = (written.local, written.span, written.until, written.duration, written.story_second)
_NUMBERS = (written.hours, written.hours_range, written.number, written.percent)
_log = logging.getLogger(__name__)


class LongLivedFiles(StaticFiles):
    """Static files named by their content (``?v=``), so browsers keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response


def install(app: FastAPI) -> None:
    """Add static files and pages to the application."""
    from fleet_server.dashboard import demand_page, pages  # pages use render() of this module

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


def render(request: Request, template: str, user: User | None = None, status: int = 200, **context: Any) -> Response:
    """One page. ``user`` None: nobody is signed in."""
    services = services_of(request)
    token, _ = session_token(request)
    html = _environment.get_template(template).render(
        user=user,
        can=PERMISSIONS[user.role] if user else frozenset(),
        csrf=csrf_token(token) if user and token else "",
        now=services.clock.now(),
        real_now=services.real_clock.now(),
        scale=services.clock.scale,
        path=request.url.path,
        query=dict(request.query_params),
        version=_version,
        **context,
    )
    return HTMLResponse(html, status)


def error_page(request: Request, status: int, title: str) -> Response:
    """An error for people."""
    return render(request, "error.html", status=status, code=status, title=title)


def _make_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        *_TIMES,
        *_NUMBERS,
        written.words,
        written.vital_name,
        written.facts,
        written.details_of,
        written.data_block,
    ):
        environment.filters[function.__name__] = function
    environment.globals.update(
        level_labels=written.LEVEL_LABELS,
        case_steps=written.CASE_STEPS,
        failure_modes=tuple(FAILURE_MODES.values()),
    )
    return environment


_environment = _make_environment()
_version = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(STATIC.glob("*")))).hexdigest()[:12]
