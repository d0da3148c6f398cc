"""The WMS of the reference interface over HTTP (docs/connect-a-wms.md), as served by ``demo/reference_wms``.

Plain HTTP is refused off loopback. The bearer token is in a file or an environment variable that the configuration
names; the configuration never holds the token itself. The token file is read for every call, and once more when the
WMS does not accept the token; the client is made anew when the file of the authority changes. Answers are bounded in
size and checked. A request that may have reached the other system and was not answered raises OutcomeUnknown; a
connection that was never made raises Retryable.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import ConnectorDeps, Refused
from fleet_server.connectors.secret_file import read_secret, require_secret
from fleet_server.connectors.transport import require_tls_off_loopback
from fleet_server.connectors.wms.api import Booking, LoadForecast, WarehouseSystem, WorkShift

SAMPLE = 'url = "https://wms.example.com"\nwarehouse = "hamburg-1"\ntoken_file = "/etc/forestall/wms.token"\n'
MAX_RESPONSE_BYTES = 2 * 1024 * 1024
MAX_HOURS = 24 * 100
MAX_TAKEN = 10_000
MAX_CLIENTS = 2
"""The present one, and the one before the authority's file changed."""
NOT_AUTHORISED = (401, 403)
NOT_BOOKED = frozenset({"cancelled", "canceled", "rejected", "declined", "released", "expired", "deleted"})
"""States that certainly hold nothing. Only ``booked`` is certainly held."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Config:
    """The ``url`` of the WMS, its name for the site (``warehouse``), and the place of its bearer token."""

    url: str
    warehouse: str
    token_file: str = ""
    token_variable: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        require_tls_off_loopback(self.url, "url")


def build(config: Config, deps: ConnectorDeps) -> WarehouseSystem:
    return ReferenceWms(config, deps.timeout_s)


class ReferenceWms:
    """``transport`` replaces the network in tests."""

    def __init__(self, config: Config, timeout_s: float, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if config.token_file:
            require_secret(config.token_file, "wms_config: token_file")
        elif config.token_variable and config.token_variable not in os.environ:
            raise BadConfig(f"wms_config: environment variable {config.token_variable} is not set")
        self._config, self._timeout_s, self._transport = config, timeout_s, transport
        self._base = f"/v1/warehouses/{quote(config.warehouse, safe='')}"
        self._trusted = _stamp(config.ca_file)
        self._clients = [self._new_client()]

    def _new_client(self) -> httpx.AsyncClient:
        verify: Any = True
        if self._config.ca_file and urlsplit(self._config.url).scheme == "https":
            try:
                verify = httpx.create_ssl_context(verify=self._config.ca_file)
            except OSError as error:  # an SSLError is one
                raise BadConfig(f"wms_config: ca_file {self._config.ca_file}: {error.strerror or error}") from None
        return httpx.AsyncClient(
            base_url=self._config.url,
            headers={"Accept": "application/json"},
            timeout=self._timeout_s,
            verify=verify,
            transport=self._transport,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=8),
            trust_env=False,
        )

    async def _client(self) -> httpx.AsyncClient:
        """The client that trusts what ``ca_file`` holds now; calls under way end on the one before."""
        stamp = _stamp(self._config.ca_file)
        if stamp != self._trusted:
            try:
                client = self._new_client()
            except BadConfig as error:
                raise Retryable(str(error)) from None  # it is being replaced
            self._trusted = stamp
            self._clients.insert(0, client)
            while len(self._clients) > MAX_CLIENTS:
                await self._clients.pop().aclose()
        return self._clients[0]

    async def load(self, equipment_ref: str, start: datetime, end: datetime) -> LoadForecast:
        span = {"from": start.isoformat(), "to": end.isoformat()}
        load = await self._read(f"{self._base}/load", span)
        taken = await self._read(f"{self._base}/equipment/{quote(equipment_ref, safe='')}/bookings", span)
        return _forecast(load, taken)

    async def book(self, equipment_ref: str, start: datetime, end: datetime, reason: str, *, key: str) -> Booking:
        body = {"equipment": equipment_ref, "start": start.isoformat(), "end": end.isoformat(), "reason": reason[:500]}
        answer = await self._call("POST", f"{self._base}/bookings", json=body, headers={"Idempotency-Key": key})
        if answer.status_code in (200, 201):
            return _booking(_parsed(answer))
        raise _failure(answer, acted=True)

    async def lookup(self, key: str) -> Booking | None:
        answer = await self._call("GET", f"{self._base}/bookings/by-key/{quote(key, safe='')}")
        if answer.status_code == 404:
            return None
        if answer.status_code == 200:
            return _booking(_parsed(answer))
        raise _failure(answer, acted=False)

    async def release(self, key: str) -> None:
        answer = await self._call("DELETE", f"{self._base}/bookings/by-key/{quote(key, safe='')}")
        if answer.status_code in (204, 404, 410):
            return
        if answer.status_code not in (200, 202, 409):
            raise _failure(answer, acted=True)
        known = await self.lookup(key)  # "accepted" and "no" say nothing of what is still booked
        if known is not None and known.state not in NOT_BOOKED:
            raise OutcomeUnknown(f"WMS answered the cancellation with {answer.status_code}, and it is {known.state!r}")

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()

    async def _read(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        answer = await self._call("GET", path, params=params)
        if answer.status_code != 200:
            raise _failure(answer, acted=False)
        return _parsed(answer)

    async def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One bounded exchange; a second one when the token was changed while the WMS refused the first.

        Raises Retryable, or OutcomeUnknown where something may have changed.
        """
        token = self._token()
        answer = await self._exchange(method, path, token, **arguments)
        if answer.status_code in NOT_AUTHORISED and (changed := self._token()) != token:
            answer = await self._exchange(method, path, changed, **arguments)
        if answer.status_code in NOT_AUTHORISED:
            where = self._config.token_file or self._config.token_variable
            told = f"it does not accept the token in {where}" if where else "it asks for a token and none is configured"
            raise Retryable(f"WMS answered {answer.status_code}: {told}")
        return answer

    def _token(self) -> str:
        """The token as it is now, "" for none. Raises Retryable."""
        if self._config.token_file:
            return read_secret(self._config.token_file, "wms_config: token_file")
        return os.environ.get(self._config.token_variable, "").strip() if self._config.token_variable else ""

    async def _exchange(self, method: str, path: str, token: str, **arguments: Any) -> httpx.Response:
        headers = {**arguments.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        client = await self._client()
        try:
            async with client.stream(method, path, headers=headers, **arguments) as answer:
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_RESPONSE_BYTES:
                        raise Permanent(f"WMS: answer larger than {MAX_RESPONSE_BYTES} bytes")
                return httpx.Response(answer.status_code, content=bytes(content), request=answer.request)
        except _NEVER_SENT as error:
            raise Retryable(f"WMS: no connection: {error}") from error
        except httpx.TransportError as error:
            text = f"WMS: no answer to {method}: {type(error).__name__}"
            raise (Retryable(text) if method == "GET" else OutcomeUnknown(text)) from error


def _failure(answer: httpx.Response, *, acted: bool) -> Exception:
    """The error for an HTTP status; a 5xx after a request for a change (``acted``) leaves the outcome unknown."""
    text = f"WMS answered {answer.status_code}"
    if answer.status_code == 409:
        return Refused(_reason(answer), text)
    if answer.status_code in (408, 425, 429):
        return Retryable(text)
    if answer.status_code >= 500:
        return OutcomeUnknown(text) if acted else Retryable(text)
    return Permanent(f"{text}: {answer.text[:200]}")


def _reason(answer: httpx.Response) -> str:
    try:
        reason = json.loads(answer.content).get("reason", "refused")
    except (ValueError, AttributeError):
        return "refused"
    return str(reason)[:60]


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    try:
        record = json.loads(answer.content)
    except (ValueError, RecursionError):
        raise Permanent("WMS: the answer is not JSON") from None
    if not isinstance(record, dict):
        raise Permanent("WMS: the answer is not a JSON object")
    return record


def _forecast(load: dict[str, Any], taken: dict[str, Any]) -> LoadForecast:
    try:
        hours, bookings = load["hours"], taken["bookings"]
        if len(hours) > MAX_HOURS or len(bookings) > MAX_TAKEN:
            raise Permanent("WMS: more hours or bookings than were asked for")
        orders = {_instant(row["start"]): float(row["orders"]) for row in hours}
        shifts = tuple(
            WorkShift(str(row["name"])[:60], time.fromisoformat(row["start"]), time.fromisoformat(row["end"]))
            for row in load.get("shifts", [])[:50]
        )
        spans = tuple((_instant(row["start"]), _instant(row["end"])) for row in bookings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Permanent(f"WMS: the load is not as agreed: {error!r:.120}") from None
    sound = {hour: value for hour, value in orders.items() if math.isfinite(value) and value >= 0}
    return LoadForecast(sound, shifts, spans, sum(sound.values()))


def _booking(record: dict[str, Any]) -> Booking:
    try:
        named, state = record["id"], str(record["state"])[:60]
        return Booking(
            reference=str(named)[:200] if isinstance(named, str | int) else "",
            start=_instant(record["start"]),
            end=_instant(record["end"]),
            held=state == "booked",
            equipment=str(record.get("equipment") or "")[:200],
            state=state,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OutcomeUnknown(f"WMS: the booking is not as agreed: {error!r:.120}") from None


def _instant(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)


def _stamp(file: str) -> tuple[int, int, int] | None:
    """What changes when a file does; None when there is none."""
    try:
        found = Path(file).stat() if file else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
