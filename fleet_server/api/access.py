"""Dependencies of the routes: who sends a request, and whether that user may.

A session is sent as the HttpOnly, SameSite=Strict cookie of a browser or as ``Authorization: Bearer`` of a program. A
request for a change that comes with the cookie must also carry the session's X-CSRF-Token. A bearer token needs none,
because no browser adds it by itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Query, Request
from starlette.exceptions import HTTPException

from fleet_server.api.problems import NotSignedIn
from fleet_server.api.services import Services, services_of
from fleet_server.sovereignty.roles import Permission, allowed
from fleet_server.sovereignty.users import User, csrf_token, session_user

COOKIE = "forestall_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_TOKEN = 200
T = TypeVar("T")


def services(request: Request) -> Services:
    """The application's services, as a dependency."""
    return services_of(request)


def session_token(request: Request) -> tuple[str, bool]:
    """The session token, and whether it came by cookie; an empty text when there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()[:_MAX_TOKEN], False
    return request.cookies.get(COOKIE, "")[:_MAX_TOKEN], True


async def signed_in(request: Request) -> User:
    """The user of the request. Raises NotSignedIn, or 403 when a change with a cookie lacks the CSRF token."""
    app = services_of(request)
    token, by_cookie = session_token(request)
    if not token:
        raise NotSignedIn
    async with app.worker() as conn:
        user = await session_user(conn, token, app.real_clock.now())
    if user is None:
        raise NotSignedIn
    if by_cookie and request.method not in _SAFE:
        sent = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), csrf_token(token).encode()):
            raise HTTPException(403, f"{CSRF_HEADER} is missing or wrong")
    return user


def require(permission: Permission) -> Callable[..., Awaitable[User]]:
    """A dependency that gives the user of the request, or answers 403 when the role lacks the permission."""

    async def check(user: Annotated[User, Depends(signed_in)]) -> User:
        if not allowed(user.role, permission):
            raise HTTPException(403, f"the role {user.role} lacks {permission}")
        return user

    return check


def found(thing: T | None, what: str) -> T:
    """The resource, or 404 when it is None: it does not exist, or belongs to another tenant."""
    if thing is None:
        raise HTTPException(404, f"no such {what}")
    return thing


App = Annotated[Services, Depends(services)]
SignedIn = Annotated[User, Depends(signed_in)]
Limit = Annotated[int, Query(ge=1, le=500, description="most items to return")]
Offset = Annotated[int, Query(ge=0, le=1_000_000, description="items to skip")]
Identity = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
Search = Annotated[str | None, Query(max_length=100)]
