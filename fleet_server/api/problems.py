"""Errors as ``application/problem+json`` (RFC 9457): the error's class decides the status, and no internals leak."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

from fleet_core.errors import BadInput, ForestallError, OutcomeUnknown, Retryable
from fleet_server.resolution.records import NotFound
from fleet_server.sovereignty.users import WrongPassword
from fleet_server.store.failures import explained

_log = logging.getLogger(__name__)


class NotSignedIn(Exception):
    """Nobody is signed in: the API answers 401, a page leads to the login."""


def problem(status: int, title: str, detail: str = "", **more: Any) -> JSONResponse:
    """One problem document."""
    headers = {"Retry-After": "2"} if status == 503 else None
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail} | more
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, _: NotSignedIn) -> Response:
        if request.url.path.startswith("/api") or request.method != "GET":
            answer = problem(401, "Sign in first", "POST /api/login, or send Authorization: Bearer")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return RedirectResponse(f"/login?next={request.url.path}", 303)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        for_people = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api")
        if for_people and request.method == "GET":
            page: Response = request.app.state.error_page(request, error.status_code, str(error.detail))
            return page
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        errors = [{"where": ".".join(map(str, item["loc"])), "what": item["msg"]} for item in error.errors()[:20]]
        return problem(422, "The request is not valid", errors[0]["what"] if errors else "", errors=errors)

    @app.exception_handler(ForestallError)
    async def ours(_: Request, error: ForestallError) -> Response:
        if isinstance(error, WrongPassword):
            return problem(401, "Not signed in", str(error))
        if isinstance(error, NotFound):
            return problem(404, "Not found", str(error))
        if isinstance(error, BadInput):
            return problem(422, "The request is not valid", str(error), reason=error.reason)
        if isinstance(error, Retryable):
            return problem(503, "Not now", str(error))
        if isinstance(error, OutcomeUnknown):
            return problem(502, "The outcome is not known", str(error))
        return problem(409, "Not possible", str(error))

    @app.exception_handler(psycopg.DataError)
    async def unstorable(_: Request, error: psycopg.DataError) -> Response:
        _log.info("a value the database cannot take: %s", error)
        return problem(422, "The request is not valid", "a value in it cannot be stored or searched for")

    @app.exception_handler(psycopg.errors.ReadOnlySqlTransaction)
    @app.exception_handler(psycopg.OperationalError)
    @app.exception_handler(psycopg.InterfaceError)
    @app.exception_handler(PoolTimeout)
    async def no_database(request: Request, error: psycopg.Error) -> Response:
        why = str(explained(error))
        _log.warning("database: %s", why)
        request.app.state.services.trouble.met(error)
        if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api"):
            page: Response = request.app.state.error_page(request, 503, f"Not now: {why}. Try again in a moment")
            page.headers["Retry-After"] = "2"
            return page
        return problem(503, "Not now", why)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "Internal error", "it was logged")
