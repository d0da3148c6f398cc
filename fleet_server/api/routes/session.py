"""Sign in and out, set a password, who am I."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

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
from fleet_server.sovereignty.known_device import COOKIE as DEVICE_COOKIE
from fleet_server.sovereignty.known_device import KNOWN_DAYS, known_device, new_cookie
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
    entered = await sign_in(app, body.login, body.password, request)
    set_cookie(response, app, entered.answer.token)
    remember_device(response, app, entered)
    return entered.answer


@dataclass(frozen=True)
class Entered:
    """A session that was begun, and the cookie by which the device is known from now on."""

    answer: SignedInAnswer
    device_cookie: str


async def sign_in(app: Services, login_name: str, password: str, request: Request) -> Entered:
    """Check a login under the throttle and start its session. Raises WrongPassword or 429."""
    now = app.real_clock.now()
    device = await _known_device(app, login_name, request, now)
    place = (login_name, request.client.host if request.client else "", device)
    _check_throttle(app, *place)
    hours = app.settings.web.session_hours
    try:
        async with app.worker() as conn:
            _check_throttle(app, *place)  # again: many tries at once wait here for their turn
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
            cookie = new_cookie(login_name, await users.password_hash_of(conn, login_name), now)
    except users.WrongPassword:
        app.throttle.failed(*place)
        _logins.labels("refused").inc()
        _log.warning("login refused for %r from %s", login_name[:64], place[1])
        raise
    app.throttle.succeeded(*place)
    _logins.labels("accepted").inc()
    answer = SignedInAnswer(
        token=token,
        csrf=users.csrf_token(token),
        role=user.role,
        must_change_password=user.must_change_password,
        expires_at=now + timedelta(hours=hours),
    )
    return Entered(answer, cookie)


async def _known_device(app: Services, login_name: str, request: Request, now: datetime) -> str:
    cookie = request.cookies.get(DEVICE_COOKIE, "")
    if not cookie:
        return ""
    async with app.worker() as conn:
        return known_device(cookie, login_name, await users.password_hash_of(conn, login_name), now)


def remember_device(response: Response, app: Services, entered: Entered) -> None:
    """Hand the browser the cookie by which it is known."""
    secure = app.settings.web.public_url.startswith("https://")
    max_age_s = KNOWN_DAYS * 24 * 3600
    response.set_cookie(
        DEVICE_COOKIE,
        entered.device_cookie,
        max_age=max_age_s,
        httponly=True,
        samesite="strict",
        secure=secure,
        path="/",
    )


def _check_throttle(app: Services, login_name: str, address: str, device: str) -> None:
    wait_s = app.throttle.wait_s(login_name, address, device)
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
