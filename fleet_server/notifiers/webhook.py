"""Webhooks as Standard Webhooks describes them: signed, with the key of the message as ``webhook-id``.

A receiver remembers the ids it has seen, so a repeat after a lost answer counts as one message. Plain HTTP is refused
off loopback, redirects are not followed, and the body of the answer is not read. The secret is read for every message.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from standardwebhooks import Webhook as Signer

from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import ConnectorDeps
from fleet_server.connectors.secret_file import read_secret
from fleet_server.connectors.transport import require_tls_off_loopback
from fleet_server.notifiers.api import Message, Notifier, Recipient

SAMPLE = 'secret_file = "/etc/forestall/webhook.secret"\n'
HOLDS = "'whsec_' and base64 of at least 24 random bytes"
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Config:
    """``secret_file`` holds ``whsec_`` and base64 of at least 24 random bytes; ``timeout_s`` is real time, per call."""

    secret_file: Path
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise BadConfig(f"timeout_s must be above 0, not {self.timeout_s}")


def build(config: Config, deps: ConnectorDeps) -> Notifier:
    return WebhookNotifier(config)


class WebhookNotifier:
    """``transport`` replaces the network in tests."""

    def __init__(self, config: Config, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._secret_file = config.secret_file
        try:
            self._signer()
        except Retryable as error:
            raise BadConfig(str(error)) from None
        self._client = httpx.AsyncClient(
            timeout=config.timeout_s, transport=transport, follow_redirects=False, trust_env=False
        )

    def address(self, person: Recipient) -> str:
        return person.webhook_url

    async def send(self, message: Message) -> str:
        require_tls_off_loopback(message.to_address, "webhook_url")
        sent_at = datetime.now(UTC)  # real time, because receivers refuse a signature that is minutes old
        body = json.dumps(
            {"type": f"case.{message.purpose}", "timestamp": sent_at.isoformat(), "data": message.data},
            separators=(",", ":"),
        )
        headers = {
            "content-type": "application/json",
            "webhook-id": message.key,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": self._signer().sign(message.key, sent_at, body),
        }
        try:
            async with self._client.stream("POST", message.to_address, content=body, headers=headers) as answer:
                status = answer.status_code
        except _NEVER_SENT as error:
            raise Retryable(f"webhook: no connection: {error}") from error
        except httpx.TransportError as error:
            raise OutcomeUnknown(f"webhook: no answer: {type(error).__name__}") from error
        except (httpx.InvalidURL, ValueError) as error:
            raise Permanent(f"webhook: {error}") from error
        if 200 <= status < 300:
            return message.key
        if status in (408, 425, 429, 503):
            raise Retryable(f"webhook: answered {status}")
        if status >= 500:
            raise OutcomeUnknown(f"webhook: answered {status}")
        raise Permanent(f"webhook: answered {status}")

    def _signer(self) -> Signer:
        """Signs with the secret as it is now. Raises Retryable."""
        return Signer(_secret(self._secret_file))

    async def lookup(self, key: str) -> bool | None:
        return None

    async def close(self) -> None:
        await self._client.aclose()


def _secret(file: Path) -> str:
    """The signing secret. Raises Retryable."""
    text = read_secret(file, "secret_file", HOLDS)
    try:
        sound = len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) >= 24
    except ValueError:
        sound = False
    if not sound:
        raise Retryable(f"secret_file must hold {HOLDS}; {file} does not")
    return text
