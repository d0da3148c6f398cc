"""The notifier webhook: signed, encrypted off loopback, and honest about what became of a message."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook as Verifier
from support.messages import message
from support.notifiers import Rig

from demo.processes import Keeper, free_port
from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_server.notifiers.webhook import Config, WebhookNotifier

SECRET = "whsec_" + "eHh4" * 12


def rig(directory: Path, keeper: Keeper) -> Rig:
    """For the conformance suite: a receiver that checks signatures, and a port where none is."""
    ids: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert Verifier(SECRET).verify(body, dict(self.headers))["type"].startswith("case.")
            ids.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return None

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there, nobody = (f"http://127.0.0.1:{port}/hook" for port in (server.server_port, free_port()))
    notifier, silent = (WebhookNotifier(config(directory, timeout_s=1.0)) for _ in range(2))
    return Rig(notifier, silent, there, nobody, lambda: ids)


def config(directory: Path, secret: str = SECRET, **settings: Any) -> Config:
    (directory / "secret").write_text(secret)
    return Config(directory / "secret", **settings)


def webhook(tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response]) -> WebhookNotifier:
    return WebhookNotifier(config(tmp_path), httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("code", "error"), [(410, Permanent), (301, Permanent), (429, Retryable), (503, Retryable), (500, OutcomeUnknown)]
)
async def test_what_became_of_a_webhook(tmp_path: Path, code: int, error: type[Exception]) -> None:
    notifier = webhook(tmp_path, lambda request: httpx.Response(code))
    with pytest.raises(error) as raised:
        await notifier.send(message(to_address="https://hooks.example/a"))
    assert type(raised.value) is error


async def test_a_webhook_off_loopback_is_encrypted(tmp_path: Path) -> None:
    notifier = webhook(tmp_path, lambda request: httpx.Response(204))
    with pytest.raises(BadConfig):
        await notifier.send(message(to_address="http://hooks.example/a"))


@pytest.mark.parametrize("secret", ["", "short", "whsec_", "whsec_###"])
def test_a_weak_secret_is_refused(tmp_path: Path, secret: str) -> None:
    with pytest.raises(BadConfig, match="secret_file must hold"):
        WebhookNotifier(config(tmp_path, secret))


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"secret_file .*nowhere"):
        WebhookNotifier(Config(tmp_path / "nowhere"))


async def test_a_secret_that_was_changed_signs_the_next_message(tmp_path: Path) -> None:
    changed = "whsec_" + "eXl5" * 12
    signed_by: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent_at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        body, key = request.content.decode(), request.headers["webhook-id"]
        signatures = {Verifier(secret).sign(key, sent_at, body): secret for secret in (SECRET, changed)}
        signed_by.append(signatures[request.headers["webhook-signature"]])
        return httpx.Response(204)

    notifier = webhook(tmp_path, answer)
    sent = message(to_address="http://127.0.0.1:1/hook")
    await notifier.send(sent)
    (tmp_path / "secret").write_text(changed)
    await notifier.send(sent)
    assert signed_by == [SECRET, changed]
    for text, said in (("", "is empty"), ("whsec_short", "must hold")):
        (tmp_path / "secret").write_text(text)
        with pytest.raises(Retryable, match=said):
            await notifier.send(sent)
    (tmp_path / "secret").unlink()
    with pytest.raises(Retryable, match=r"secret_file .*secret: No such file"):
        await notifier.send(sent)
