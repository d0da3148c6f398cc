"""E-mail over SMTP: text and HTML, an appointment attached, threaded by Message-ID.

The Message-ID derives from the message's key, so a mail sent twice is one mail to whoever reads it. SMTP cannot be
asked whether a mail was accepted: after a lost answer the same mail goes out again under the same identity. Plain SMTP
is refused off loopback.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from typing import Any, Literal

import aiosmtplib
from icalendar import Calendar, Event, vCalAddress

from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_core.network import is_loopback
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.connectors.secret_file import read_secret
from fleet_server.notifiers.api import CalendarEntry, Message, Notifier, NotYet, Recipient, one_line

SAMPLE = 'host = "smtp.example.com"\nport = 587\nsender = "forestall@example.com"\nsecurity = "starttls"\n'
_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9.\-]+")


@dataclass(frozen=True, slots=True)
class Config:
    """The mail server and whom it is from. ``timeout_s`` is real time, per step of the conversation."""

    host: str = "127.0.0.1"
    port: int = 25
    sender: str = "forestall@localhost"
    username: str = ""
    password_file: Path | None = None
    security: Literal["none", "starttls", "tls"] = "starttls"
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadConfig(f"port must be 0 to 65535, not {self.port}")
        if not 0 < self.timeout_s < float("inf"):
            raise BadConfig(f"timeout_s must be above 0, not {self.timeout_s}")
        if self.security == "none" and not is_loopback(self.host):
            raise BadConfig(f"security: plain SMTP to {self.host!r} is refused; use starttls or tls")
        self.sender_address()

    def sender_address(self) -> Address:
        try:
            return Address(display_name="Forestall", addr_spec=self.sender)
        except (ValueError, IndexError, MessageError) as error:
            raise BadConfig(f"sender: {self.sender!r} is not a mail address: {error}") from None


def build(config: Config, deps: ConnectorDeps) -> Notifier:
    return EmailNotifier(config)


class EmailNotifier:
    def __init__(self, config: Config) -> None:
        self._sender = config.sender_address()
        self._config = config

    def address(self, person: Recipient) -> str:
        return person.email

    async def send(self, message: Message) -> str:
        mail = self.render(message)
        mail["Date"] = localtime()  # real time and not domain time: the date belongs to the mail
        client = aiosmtplib.SMTP(
            hostname=self._config.host,
            port=self._config.port,
            timeout=self._config.timeout_s,
            use_tls=self._config.security == "tls",
            start_tls=self._config.security == "starttls",
            **self._credentials(),
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Retryable(f"mail server {self._config.host}:{self._config.port}: {error}") from error
        try:
            await client.send_message(mail)
        except aiosmtplib.SMTPResponseException as error:
            raise _answer(error.code, error.message) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise _answer(first.code, f"recipient refused: {first.message}") from error
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError, OSError) as error:
            raise OutcomeUnknown(f"the mail server went away while it took the mail: {error}") from error
        except aiosmtplib.SMTPException as error:
            raise Permanent(f"the mail cannot be sent: {error}") from error
        finally:
            client.close()
        return str(mail["Message-ID"])

    async def lookup(self, key: str) -> bool | None:
        return None

    async def close(self) -> None:
        return None

    def render(self, message: Message) -> EmailMessage:
        """The mail, the same for the same message. Raises Permanent when an address cannot be one."""
        mail = EmailMessage(policy=policy.SMTP)
        try:
            recipient = Address(display_name=one_line(message.to_name, 100), addr_spec=message.to_address)
        except (ValueError, IndexError, MessageError) as error:
            raise Permanent(f"{message.to_address!r} is not a mail address: {error}") from None
        mail["From"] = self._sender
        mail["To"] = recipient
        mail["Subject"] = one_line(message.subject)
        mail["Message-ID"] = self.message_id(message.key)
        if message.reply_to_key:
            mail["In-Reply-To"] = mail["References"] = self.message_id(message.reply_to_key)
        mail["Auto-Submitted"] = "auto-generated"
        mail["X-Forestall-Purpose"] = one_line(message.purpose)
        mail["X-Forestall-Case"] = one_line(str(message.data.get("case_id", "")))
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        if message.calendar is not None:
            method = "CANCEL" if message.calendar.cancelled else "REQUEST"
            mail.add_attachment(
                calendar_text(message.calendar, method, str(self._sender.addr_spec), message.to_address),
                subtype="calendar",
                filename="repair.ics",
                params={"method": method},
            )
        return mail

    def message_id(self, key: str) -> str:
        return f"<{_UNSAFE_IN_ID.sub('.', key)}@{self._sender.domain}>"

    def _credentials(self) -> dict[str, Any]:
        """As they are now. Raises Retryable."""
        if not self._config.username:
            return {}
        password = ""
        if self._config.password_file is not None:
            password = read_secret(self._config.password_file, "notifiers.email: password_file")
        return {"username": self._config.username, "password": password}


def calendar_text(entry: CalendarEntry, method: str, organizer: str, attendee: str) -> str:
    """An iCalendar object with one event (RFC 5545, RFC 5546)."""
    event = Event()
    event.add("uid", entry.uid)
    event.add("sequence", entry.sequence)
    event.add("dtstamp", entry.made_at)
    event.add("dtstart", entry.start)
    event.add("dtend", entry.end)
    event.add("summary", one_line(entry.summary))
    event.add("location", one_line(entry.location))
    event.add("description", entry.description)
    event.add("status", "CANCELLED" if entry.cancelled else "CONFIRMED")
    event.add("transp", "TRANSPARENT")
    event["organizer"] = vCalAddress(f"mailto:{organizer}")
    event["attendee"] = vCalAddress(f"mailto:{attendee}")
    calendar = Calendar()
    calendar.add("prodid", "-//Forestall//Repair planning//EN")
    calendar.add("version", "2.0")
    calendar.add("method", method)
    calendar.add_component(event)
    return calendar.to_ical().decode()


def _answer(code: int, text: str) -> Exception:
    """4xx asks to come again, 5xx is final."""
    line = f"mail server answered {code}: {one_line(str(text))}"
    return NotYet(line) if 400 <= code < 500 else Permanent(line)
