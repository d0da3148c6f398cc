"""Renders pages from templates, with the values that every page gets and the filters that templates may use.

Templates are Jinja with automatic escaping; a name without a value is an error and not an empty place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

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


def render(request: Request, template: str, user: User | None = None, status: int = 200, **context: Any) -> Response:
    """Render a page; ``user`` is None when nobody is signed in."""
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
        running_labels=written.RUNNING_LABELS,
        case_steps=written.CASE_STEPS,
        failure_modes=tuple(FAILURE_MODES.values()),
    )
    return environment


_environment = _make_environment()
_version = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(STATIC.glob("*")))).hexdigest()[:12]
