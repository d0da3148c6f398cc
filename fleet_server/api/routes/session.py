"""Sign in and out, set a password, who am I."""

from __future__ import annotations

import logging
from datetime import timedelta

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from fleet_server.api.access import COOKIE, App, SignedIn, session_token
from fleet_server.api.models.base import Done
from fleet_server.api.models.fleet import Me
from fleet_server.api.models.fleet import SignedIn as SignedInAnswer
from fleet_server.api.services import Services
from fleet_server.audit.log import record
from fleet_server.sovereignty import users
from fleet_server.sovereignty.roles import PERMISSIONS

router = APIRouter(prefix="/api", tags=["session"])
_logins = Counter("forestall_web_logins_total", "Logins tried", ["outcome"])
_log = logging.getLogger(__name__)


class LoginRequest(BaseModel):
    login: str = Field(max_length=64)
    password: str = Field(max_length=users.MAX_PASSWORD)


class PasswordRequest(BaseModel):
    password: str = Field(max_length=users.MAX_PASSWORD)


@router.post("/login")
async def login(body: LoginRequest, request: Request, response: Response, app: App) -> SignedInAnswer:
    """Sign in. The session is set as a cookie and given as a bearer token; 429 after too many failures."""
    answer = await sign_in(app, body.login, body.password, request)
    set_cookie(response, app, answer.token)
    return answer


async def sign_in(app: Services, login_name: str, password: str, request: Request) -> SignedInAnswer:
    """Check a login under the throttle and start its session. Raises WrongPassword or 429."""
    address = request.client.host if request.client else ""
    _check_throttle(app, login_name, address)
    now = app.real_clock.now()
    hours = app.settings.web.session_hours
    try:
        async with app.worker() as conn:
            _check_throttle(app, login_name, address)  # again: many tries at once wait here for their turn
            user = await users.verify(conn, login_name, password)
            token = await users.start_session(conn, user, hours, now)
            await record(
                conn,
                app.clock,
                tenant_id=user.tenant_id,
                actor=user.actor,
                action="signed_in",
                subject=f"user:{user.user_id}",
                body={"one_time": user.must_change_password},
            )
    except users.WrongPassword:
        app.throttle.failed(login_name, address)
        _logins.labels("refused").inc()
        _log.warning("login refused for %r from %s", login_name[:64], address)
        raise
    app.throttle.succeeded(login_name)
    _logins.labels("accepted").inc()
    return SignedInAnswer(
        token=token,
        csrf=users.csrf_token(token),
        role=user.role,
        must_change_password=user.must_change_password,
        expires_at=now + timedelta(hours=hours),
    )


def _check_throttle(app: Services, login_name: str, address: str) -> None:
    wait_s = app.throttle.wait_s(login_name, address)
    if wait_s > 0:
        _logins.labels("throttled").inc()
        headers = {"Retry-After": str(int(wait_s) + 1)}
        raise HTTPException(429, f"too many failed logins: try again in {int(wait_s) + 1} s", headers)


def set_cookie(response: Response, app: Services, token: str) -> None:
    """Hand the session to a browser. Secure wherever the page is served over HTTPS."""
    secure = app.settings.web.public_url.startswith("https://")
    max_age_s = int(app.settings.web.session_hours * 3600)
    response.set_cookie(COOKIE, token, max_age=max_age_s, httponly=True, samesite="strict", secure=secure, path="/")


@router.post("/logout")
async def logout(request: Request, response: Response, user: SignedIn, app: App) -> Done:
    """End this session."""
    token, _ = session_token(request)
    async with app.worker() as conn:
        await users.end_session(conn, token)
    response.delete_cookie(COOKIE, path="/")
    return Done(detail=f"{user.user_id} signed out")


@router.post("/password")
async def password(body: PasswordRequest, response: Response, user: SignedIn, app: App) -> SignedInAnswer:
    """Set one's own password. Every other session of the account ends; this one is replaced."""
    now = app.real_clock.now()
    async with app.worker() as conn:
        await users.set_password(conn, user, body.password)
        token = await users.start_session(conn, user, app.settings.web.session_hours, now)
        await record(
            conn,
            app.clock,
            tenant_id=user.tenant_id,
            actor=user.actor,
            action="password_changed",
            subject=f"user:{user.user_id}",
            body={},
        )
    set_cookie(response, app, token)
    return SignedInAnswer(
        token=token,
        csrf=users.csrf_token(token),
        role=user.role,
        must_change_password=False,
        expires_at=now + timedelta(hours=app.settings.web.session_hours),
    )


@router.get("/me")
async def me(request: Request, user: SignedIn) -> Me:
    """The one signed in, unmasked: it is about themselves."""
    token, _ = session_token(request)
    return Me(
        user_id=user.user_id,
        role=user.role,
        tenant_id=user.tenant_id,
        permissions=sorted(PERMISSIONS[user.role]),
        must_change_password=user.must_change_password,
        csrf=users.csrf_token(token),
    )
