"""The cookie of a device from which a person signed in before: a way in while strangers guess that person's password.

``device.day.signature``: a random name, the day it was given, and an HMAC over both and the login under the account's
password hash. It says nothing of the person, proves nothing but the earlier sign-in, and ends with the password,
with the account, and after ``KNOWN_DAYS``. It never replaces the password.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

COOKIE = "forestall_device"
KNOWN_DAYS = 180
_MAX_COOKIE = 120


def new_cookie(login: str, password_hash: str, now: datetime) -> str:
    """A cookie for a device that has just signed in."""
    device, day = secrets.token_hex(8), now.date().toordinal()
    return f"{device}.{day}.{_signature(login, password_hash, device, str(day))}"


def known_device(cookie: str, login: str, password_hash: str, now: datetime) -> str:
    """The device's name when the cookie was given to this login and still counts, else ""."""
    device, _, rest = cookie[:_MAX_COOKIE].partition(".")
    day, _, signature = rest.partition(".")
    if not device or not (day.isascii() and day.isdecimal()) or not password_hash or not signature.isascii():
        return ""
    if not hmac.compare_digest(signature, _signature(login, password_hash, device, day)):
        return ""
    return device if 0 <= now.date().toordinal() - int(day) <= KNOWN_DAYS else ""


def _signature(login: str, password_hash: str, device: str, day: str) -> str:
    text = f"forestall device\n{login}\n{device}\n{day}"
    return hmac.new(password_hash.encode(), text.encode(), hashlib.sha256).hexdigest()
