"""Users of the web and their sessions.

Passwords are argon2id hashes; a session is a random token of which the database keeps the SHA-256. Everything here
runs on a worker-role connection: the role that renders pages can read neither. All times are real time.

A one-time password opens exactly one session (the account's ``one_time`` turns into "must change": the hash is replaced
by an unusable one at that login); within the session the person sets a password of their own. A login that does not
exist costs as much time as a wrong password.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import dict_row

from fleet_core.errors import BadInput, Permanent
from fleet_server.sovereignty.roles import Role

MIN_PASSWORD = 10
MAX_PASSWORD = 256
MAX_SESSIONS_PER_USER = 20
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}\Z")
_USED_UP = "!used"
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's smallest: logins must not hog a core
_decoy_hash = _hasher.hash(secrets.token_urlsafe(16))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody signed in. ``tenant_id`` None: sees every tenant, as the role allows."""

    user_id: str
    tenant_id: str | None
    person_id: str | None
    role: Role
    must_change_password: bool

    @property
    def actor(self) -> str:
        """How the audit log names this user."""
        return f"user:{self.user_id}"


class WrongPassword(Permanent):
    """Login and password do not match an active account."""


async def add_user(
    conn: AsyncConnection[Any],
    login: str,
    role: Role,
    *,
    tenant_id: str | None = None,
    person_id: str | None = None,
    one_time: bool = False,
    now: datetime | None = None,
) -> str:
    """Create (or re-issue) an account and return its generated password. Raises BadInput."""
    if not _LOGIN.match(login):
        raise BadInput("login", f"{login[:70]!r}: letters, digits and _ . @ + -, at most 64")
    if role is Role.DIRECTOR and tenant_id is None:
        raise BadInput("tenant", "a director belongs to a tenant: name it with --tenant")
    password = secrets.token_urlsafe(12)
    try:
        await conn.execute(
            "INSERT INTO fleet.app_user (user_id, tenant_id, person_id, role, password_hash, one_time, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (user_id) DO UPDATE SET tenant_id = excluded.tenant_id,"
            " person_id = excluded.person_id, role = excluded.role, password_hash = excluded.password_hash,"
            " one_time = excluded.one_time, active = true",
            (login, tenant_id, person_id, role.value, _hasher.hash(password), one_time, now or datetime.now(UTC)),
        )
    except ForeignKeyViolation as error:
        raise BadInput("reference", str(error.diag.message_detail)) from None
    await end_sessions(conn, login)
    return password


async def verify(conn: AsyncConnection[Any], login: str, password: str) -> User:
    """Check a login and use up a one-time password. Raises WrongPassword; concurrent uses of one: one wins."""
    row = await _one(conn, "SELECT * FROM fleet.app_user WHERE user_id = %s AND active FOR UPDATE", login)
    stored = row["password_hash"] if row else _decoy_hash
    try:
        await asyncio.to_thread(_hasher.verify, stored, password[:MAX_PASSWORD])
    except (VerificationError, InvalidHashError):
        row = None
    if row is None:
        raise WrongPassword("the login or the password is wrong")
    if row["one_time"]:
        await conn.execute("UPDATE fleet.app_user SET password_hash = %s WHERE user_id = %s", (_USED_UP, login))
    return _user(row)


async def set_password(conn: AsyncConnection[Any], user: User, password: str) -> None:
    """Set a person's own password and end their other sessions (the caller starts a new one). Raises BadInput."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadInput("password", f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if password.casefold() in (user.user_id.casefold(), "password12", "1234567890"):
        raise BadInput("password", "that password is too easy to guess")
    await conn.execute(
        "UPDATE fleet.app_user SET password_hash = %s, one_time = false WHERE user_id = %s",
        (_hasher.hash(password), user.user_id),
    )
    await end_sessions(conn, user.user_id)


async def start_session(conn: AsyncConnection[Any], user: User, hours: float, now: datetime) -> str:
    """A new session's token. A user's oldest sessions beyond MAX_SESSIONS_PER_USER end, expired ones are removed."""
    token = secrets.token_urlsafe(32)
    await conn.execute("DELETE FROM fleet.web_session WHERE expires_at < %s", (now,))
    await conn.execute(
        "DELETE FROM fleet.web_session WHERE token_hash IN (SELECT token_hash FROM fleet.web_session"
        " WHERE user_id = %s ORDER BY created_at DESC OFFSET %s)",
        (user.user_id, MAX_SESSIONS_PER_USER - 1),
    )
    await conn.execute(
        "INSERT INTO fleet.web_session (token_hash, user_id, created_at, expires_at) VALUES (%s, %s, %s, %s)",
        (_digest(token), user.user_id, now, now + timedelta(hours=hours)),
    )
    return token


async def session_user(conn: AsyncConnection[Any], token: str, now: datetime) -> User | None:
    """Whose session a token is; None when it is unknown, expired, or its account inactive."""
    row = await _one(
        conn,
        "SELECT app_user.* FROM fleet.web_session JOIN fleet.app_user USING (user_id)"
        " WHERE token_hash = %s AND expires_at > %s AND active",
        _digest(token),
        now,
    )
    return _user(row) if row else None


async def end_session(conn: AsyncConnection[Any], token: str) -> None:
    """Sign out."""
    await conn.execute("DELETE FROM fleet.web_session WHERE token_hash = %s", (_digest(token),))


async def end_sessions(conn: AsyncConnection[Any], login: str) -> None:
    """End every session of an account."""
    await conn.execute("DELETE FROM fleet.web_session WHERE user_id = %s", (login,))


def csrf_token(session_token: str) -> str:
    """The token a page of this session must hand back with every change it asks for."""
    return hmac.new(session_token.encode(), b"forestall csrf", hashlib.sha256).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _user(row: dict[str, Any]) -> User:
    return User(row["user_id"], row["tenant_id"], row["person_id"], Role(row["role"]), row["one_time"])


async def _one(conn: AsyncConnection[Any], sql: LiteralString, *parameters: Any) -> dict[str, Any] | None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql, parameters)
        return await cursor.fetchone()
