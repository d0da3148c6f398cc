"""Users of the web and their sessions.

Passwords are stored as argon2id hashes. A session is a random token; the database keeps only its SHA-256. Everything
here runs on a connection of the worker role, because the role that renders pages can read neither accounts nor
sessions. All times are real time.

A one-time password opens exactly one session: at that login its hash is replaced by an unusable one, and within the
session the person sets a password of their own. A login that does not exist costs as much time as a wrong password, so
that time does not tell which logins exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import dict_row

from fleet_core.errors import BadInput, Permanent
from fleet_server.sovereignty.roles import Role
from fleet_server.store.sql import queries

_SQL = queries("users")
MIN_PASSWORD = 10
MAX_PASSWORD = 256
MAX_SESSIONS_PER_USER = 20
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}\Z")
_USED_UP = "!used"
# OWASP's smallest recommended parameters, so that logins do not occupy a core.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_decoy_hash = _hasher.hash(secrets.token_urlsafe(16))


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user. With ``tenant_id`` None the user sees every tenant, as far as the role allows."""

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
            _SQL.put_user,
            {
                "user_id": login,
                "tenant_id": tenant_id,
                "person_id": person_id,
                "role": role.value,
                "password_hash": _hasher.hash(password),
                "one_time": one_time,
                "now": now or datetime.now(UTC),
            },
        )
    except ForeignKeyViolation as error:
        raise BadInput("reference", str(error.diag.message_detail)) from None
    await end_sessions(conn, login)
    return password


async def verify(conn: AsyncConnection[Any], login: str, password: str) -> User:
    """Check a login, and use up its one-time password; of concurrent uses of one password only one succeeds.

    Raises:
        WrongPassword: login and password do not match an active account.
    """
    row = await _one(conn, _SQL.lock_active_user, {"user_id": login})
    stored = row["password_hash"] if row else _decoy_hash
    try:
        await asyncio.to_thread(_hasher.verify, stored, password[:MAX_PASSWORD])
    except (VerificationError, InvalidHashError):
        row = None
    if row is None:
        raise WrongPassword("the login or the password is wrong")
    if row["one_time"]:
        await conn.execute(_SQL.use_up, {"user_id": login, "password_hash": _USED_UP})
    return _user(row)


async def password_hash_of(conn: AsyncConnection[Any], login: str) -> str:
    """The hash of an active account's password, "" when there is none: the key of its known devices."""
    row = await _one(conn, _SQL.password_hash_of, {"user_id": login})
    return str(row["password_hash"]) if row else ""


async def set_password(conn: AsyncConnection[Any], user: User, password: str) -> None:
    """Set a person's own password and end their other sessions (the caller starts a new one). Raises BadInput."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise BadInput("password", f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if password.casefold() in (user.user_id.casefold(), "password12", "1234567890"):
        raise BadInput("password", "that password is too easy to guess")
    await conn.execute(_SQL.set_password, {"user_id": user.user_id, "password_hash": _hasher.hash(password)})
    await end_sessions(conn, user.user_id)


async def start_session(conn: AsyncConnection[Any], user: User, hours: float, now: datetime) -> str:
    """Start a session that lasts ``hours`` and return its token.

    The oldest sessions of the user beyond ``MAX_SESSIONS_PER_USER`` end, and expired sessions are removed.
    """
    token = secrets.token_urlsafe(32)
    times = {"now": now, "expires_at": now + timedelta(hours=hours)}
    await conn.execute(_SQL.forget_expired_sessions, {"now": now})
    await conn.execute(_SQL.end_oldest_sessions, {"user_id": user.user_id, "kept": MAX_SESSIONS_PER_USER - 1})
    await conn.execute(_SQL.start_session, {"token_hash": _digest(token), "user_id": user.user_id, **times})
    return token


async def session_user(conn: AsyncConnection[Any], token: str, now: datetime) -> User | None:
    """The user of a session token; None when the token is unknown or expired, or its account is inactive."""
    row = await _one(conn, _SQL.session_user, {"token_hash": _digest(token), "now": now})
    return _user(row) if row else None


async def end_session(conn: AsyncConnection[Any], token: str) -> None:
    """Sign out."""
    await conn.execute(_SQL.end_session, {"token_hash": _digest(token)})


async def end_sessions(conn: AsyncConnection[Any], login: str) -> None:
    """End every session of an account."""
    await conn.execute(_SQL.end_sessions, {"user_id": login})


def csrf_token(session_token: str) -> str:
    """The CSRF token that a page of this session must send with every change."""
    return hmac.new(session_token.encode(), b"forestall csrf", hashlib.sha256).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _user(row: dict[str, Any]) -> User:
    return User(row["user_id"], row["tenant_id"], row["person_id"], Role(row["role"]), row["one_time"])


async def _one(conn: AsyncConnection[Any], query: Any, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, parameters)
        return await cursor.fetchone()
