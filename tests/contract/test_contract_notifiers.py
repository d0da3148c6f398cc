"""Every notifier: accepted once reached, the same identity on a repeat, retryable when nobody answers."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier
from support.connectors import check_shape
from support.resolution import Servers

from demo.processes import Keeper, free_port
from fleet_core.clock import SimulatedClock
from fleet_core.errors import Permanent, Retryable
from fleet_core.plugins import plugin_names
from fleet_server.notifiers.api import CalendarEntry, Message, Notifier, Recipient
from fleet_server.settings import Mail, Webhook

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.notifiers"
NOW = SimulatedClock().now()


@dataclass
class Rig:
    """A notifier that reaches somebody, one that reaches nobody, and the identities of what arrived, in order."""

    notifier: Notifier
    silent: Notifier
    address: str
    nowhere: str
    arrived: Callable[[], list[str]]


def email_rig(directory: Path, keeper: Keeper) -> Rig:
    servers = Servers(keeper, directory).start()
    module = check_shape(PACKAGE, "email")
    mail = Mail(port=servers.mail_port, security="none", sender="f@f.example", timeout_s=1.0)
    deaf = mail.model_copy(update={"port": free_port()})
    reached = "anna@people.example"
    notifier, silent = module.build(mail, None), module.build(deaf, None)
    return Rig(notifier, silent, reached, reached, lambda: [mail["message_id"] for mail in servers.mails()])


def webhook_rig(directory: Path, keeper: Keeper) -> Rig:
    secret = directory / "secret"
    secret.write_text("whsec_" + base64.b64encode(b"x" * 32).decode())
    module = check_shape(PACKAGE, "webhook")
    config = Webhook(secret_file=secret, timeout_s=1.0)
    ids: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert Verifier(secret.read_text()).verify(body, dict(self.headers))["type"].startswith("case.")
            ids.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/hook"
    nobody = f"http://127.0.0.1:{free_port()}/hook"
    return Rig(module.build(config, None), module.build(config, None), address, nobody, lambda: ids)


RIGS = {"email": email_rig, "webhook": webhook_rig}


@pytest.fixture(params=plugin_names(PACKAGE))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    assert request.param in RIGS, f"notifier {request.param} has no rig"
    with Keeper(tmp_path / "log") as keeper:
        yield RIGS[request.param](tmp_path, keeper)


def message(address: str, **changes: Any) -> Message:
    entry = CalendarEntry("c-1@forestall", 0, NOW, NOW + timedelta(hours=2), "Repair", "Hamburg", "text", NOW)
    values: dict[str, Any] = {
        "key": "c-1:message:announcement:0", "purpose": "announcement", "to_name": "Anna", "to_address": address,
        "subject": "Repair arranged", "text": "text\n", "html": "<p>text</p>", "calendar": entry,
        "data": {"case_id": "c-1"},
    }  # fmt: skip
    return Message(**{**values, **changes})


async def test_a_message_arrives_and_a_repeat_has_the_same_identity(rig: Rig) -> None:
    assert await rig.notifier.send(message(rig.address))
    assert await rig.notifier.send(message(rig.address))
    await rig.notifier.send(
        message(rig.address, key="c-1:message:closing:0", reply_to_key="c-1:message:announcement:0")
    )
    first, again, other = rig.arrived()
    assert first == again != other
    assert await rig.notifier.lookup("c-1:message:announcement:0") in (None, True)
    await rig.notifier.close()


async def test_nobody_there_is_retryable(rig: Rig) -> None:
    with pytest.raises(Retryable):
        await rig.silent.send(message(rig.nowhere))
    assert rig.arrived() == []


async def test_an_impossible_address_is_permanent(rig: Rig) -> None:
    with pytest.raises(Permanent):
        await rig.notifier.send(message("not an address\r\nX: y"))
    assert rig.arrived() == []


def test_whom_it_reaches(rig: Rig) -> None:
    assert rig.notifier.address(Recipient("p", "Nobody")) == ""
    assert rig.notifier.address(Recipient("p", "Anna", "anna@x.example", "https://x.example/hook"))
