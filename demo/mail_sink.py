"""A real SMTP server that keeps the mails it accepts, one line of ``mails.jsonl`` for every mail.

``python -m demo.mail_sink --dir D`` prints one JSON line when ready. A mail is on disk before it is accepted, so what
a sender counts as delivered can be counted here too. Faults for tests: ``--tempfail N`` refuses the first N mails with
451, ``--drop-after-accept N`` keeps the first N and closes the connection instead of answering, ``--delay-s S`` waits.
Two mailboxes never take a mail, whatever their domain: ``gone@`` does not exist (550), ``later@`` is always asked to be
tried again (450, as greylisting does).
"""

from __future__ import annotations

import argparse
import asyncio
import email
import email.policy
import json
import os
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from fleet_core.service import stop_on_signals

MAX_MAIL_BYTES = 5 * 1024 * 1024
FILE_NAME = "mails.jsonl"
REFUSED = {"gone": "550 5.1.1 no such mailbox", "later": "450 4.2.0 greylisted, come again"}


@dataclass
class Trouble:
    """Faults still to come: how many mails are refused, how many are kept but not answered, and the delay."""

    tempfail: int = 0
    drop_after_accept: int = 0
    delay_s: float = 0.0


class Keep:
    """aiosmtpd's handler: writes, then answers."""

    def __init__(self, path: Path, trouble: Trouble) -> None:
        self._path = path
        self._trouble = trouble

    async def handle_RCPT(  # its name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refused = REFUSED.get(address.partition("@")[0])
        if refused is not None:
            return refused
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 here"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # its name
        if self._trouble.delay_s:
            await asyncio.sleep(self._trouble.delay_s)
        if self._trouble.tempfail > 0:
            self._trouble.tempfail -= 1
            return "451 4.3.0 try again later"
        _append(self._path, _record(envelope))
        if self._trouble.drop_after_accept > 0:
            self._trouble.drop_after_accept -= 1
            if isinstance(server.transport, asyncio.WriteTransport):
                server.transport.abort()
        return "250 2.0.0 kept"


def read_mails(directory: Path) -> list[dict[str, Any]]:
    """The mails accepted so far, in order. Their keys: received_at (real time), sender, recipients, message_id,
    in_reply_to, subject, text, html, calendar, headers.
    """
    path = directory / FILE_NAME
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def distinct(mails: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first mail of every Message-ID: a reader's mail program shows repeats once."""
    seen: dict[str, dict[str, Any]] = {}
    for mail in mails:
        seen.setdefault(mail["message_id"], mail)
    return list(seen.values())


def _record(envelope: Envelope) -> dict[str, Any]:
    content = envelope.content or b""
    raw = content if isinstance(content, bytes) else content.encode()
    message = email.message_from_bytes(raw, policy=email.policy.default)
    parts: dict[str, str] = {}
    for part in message.walk():
        if not part.is_multipart() and part.get_content_maintype() == "text":
            parts.setdefault(part.get_content_type(), part.get_content())
    return {
        "received_at": datetime.now(UTC).isoformat(),
        "sender": envelope.mail_from,
        "recipients": envelope.rcpt_tos,
        "message_id": str(message.get("Message-ID", "")),
        "in_reply_to": str(message.get("In-Reply-To", "")),
        "subject": str(message.get("Subject", "")),
        "text": parts.get("text/plain", ""),
        "html": parts.get("text/html", ""),
        "calendar": parts.get("text/calendar", ""),
        "headers": {name: str(value) for name, value in message.items()},
    }


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


async def serve(directory: Path, port: int, trouble: Trouble) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    directory.mkdir(parents=True, exist_ok=True)
    handler = Keep(directory / FILE_NAME, trouble)
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", port))

    def session() -> SMTP:
        return SMTP(handler, enable_SMTPUTF8=True, data_size_limit=MAX_MAIL_BYTES, ident="mail sink", loop=loop)

    server = await loop.create_server(session, sock=listener)
    stop = stop_on_signals()
    port = listener.getsockname()[1]
    sys.stdout.write(json.dumps({"ready": True, "host": "127.0.0.1", "port": port, "dir": str(directory)}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mail_sink", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--dir", type=Path, required=True, help="where the mails are kept")
    parser.add_argument("--tempfail", type=int, default=0)
    parser.add_argument("--drop-after-accept", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    arguments = parser.parse_args(argv)
    trouble = Trouble(arguments.tempfail, arguments.drop_after_accept, arguments.delay_s)
    asyncio.run(serve(arguments.dir, arguments.port, trouble))
    return 0


if __name__ == "__main__":
    sys.exit(main())
