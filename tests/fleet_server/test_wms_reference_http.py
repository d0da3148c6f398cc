"""The WMS connector reference_http against answers no good WMS gives, and its configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.resolution import SITE, Servers

from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_server.connectors.common import Refused
from fleet_server.connectors.transport import require_tls_off_loopback
from fleet_server.connectors.wms.reference_http import MAX_RESPONSE_BYTES, Config, ReferenceWms

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
END = START + timedelta(hours=2)
BOOKED = {"id": "b-1", "start": START.isoformat(), "end": END.isoformat(), "state": "booked"}


def rig(servers: Servers) -> dict[str, Any]:
    """For the conformance suite: the reference WMS that runs for the test."""
    return {"url": servers.wms_url, "warehouse": SITE, "token_file": str(servers.token_file)}


def wms(answer: Callable[[httpx.Request], httpx.Response], **config: Any) -> ReferenceWms:
    return ReferenceWms(Config("https://wms.example", "ham/1", **config), 1.0, httpx.MockTransport(answer))


def status(code: int, body: Any = None) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(code, json=body)


def raises(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("x", request=request)

    return answer


async def book(system: ReferenceWms) -> Any:
    return await system.book("EQ 1", START, END, "repair", key="key-12345")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(409, {"reason": "equipment_taken"}), Refused),
        (status(409, ["odd"]), Refused),
        (status(429), Retryable),
        (status(500), OutcomeUnknown),
        (status(503), OutcomeUnknown),
        (status(400), Permanent),
        (status(401), Retryable),
        (status(403), Retryable),
        (status(302), Permanent),
        (status(201, {"id": "b-1"}), OutcomeUnknown),
        (raises(httpx.ConnectError), Retryable),
        (raises(httpx.ConnectTimeout), Retryable),
        (raises(httpx.ReadTimeout), OutcomeUnknown),
        (raises(httpx.RemoteProtocolError), OutcomeUnknown),
        (raises(httpx.WriteError), OutcomeUnknown),
    ],
)
async def test_what_became_of_a_booking(
    answer: Callable[[httpx.Request], httpx.Response], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await book(wms(answer))
    assert type(raised.value) is error


@pytest.mark.parametrize("answer", [status(500), status(503), raises(httpx.ReadTimeout)])
async def test_reading_is_always_safe_to_repeat(answer: Callable[[httpx.Request], httpx.Response]) -> None:
    with pytest.raises(Retryable):
        await wms(answer).load("EQ", START, END)
    with pytest.raises(Retryable):
        await wms(answer).lookup("key-12345")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"hours": 3, "bookings": []},
        {"hours": [{"start": "yesterday", "orders": 1}], "bookings": []},
        {"hours": [{"start": "2026-01-05T08:00:00", "orders": 1}], "bookings": []},
        {"hours": [{"start": START.isoformat(), "orders": "x"}], "bookings": []},
        {"hours": [], "bookings": [[]]},
        {"hours": [{}] * 3000, "bookings": []},
        [],
    ],
)
async def test_an_odd_load_is_refused_with_its_reason(body: Any) -> None:
    with pytest.raises(Permanent):
        await wms(status(200, body)).load("EQ", START, END)


async def test_negative_and_infinite_loads_count_as_unknown() -> None:
    hours = [{"start": (START + timedelta(hours=n)).isoformat(), "orders": o} for n, o in enumerate((5, -1, 1e999))]
    text = json.dumps({"hours": hours, "bookings": []})
    forecast = await wms(lambda request: httpx.Response(200, content=text)).load("EQ", START, END)
    assert forecast.orders_by_hour == {START: 5.0}


async def test_an_endless_answer_is_cut() -> None:
    with pytest.raises(Permanent):
        await wms(lambda request: httpx.Response(200, content=b" " * (MAX_RESPONSE_BYTES + 1))).load("EQ", START, END)
    with pytest.raises(Permanent):
        await wms(lambda request: httpx.Response(200, content=b"[" * 100_000)).load("EQ", START, END)


async def test_what_is_sent(tmp_path: Path) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json=BOOKED)

    token = tmp_path / "token"
    token.write_text("s3cret\n")
    assert (await book(wms(answer, token_file=str(token)))).held
    (request,) = seen
    assert request.url.raw_path == b"/v1/warehouses/ham%2F1/bookings"
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["idempotency-key"] == "key-12345"
    assert json.loads(request.content) == {
        "equipment": "EQ 1", "start": START.isoformat(), "end": END.isoformat(), "reason": "repair",
    }  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "http://wms.example", "http://10.0.0.7:8080", "http://127.0.0.1.evil.example", "ftp://127.0.0.1",
        "https://", "wms.example", "https://user:pw@wms.example", "http://[::1", "http://localhost:99999",
    ],
)  # fmt: skip
def test_plain_http_off_loopback_and_nonsense_are_refused(url: str) -> None:
    with pytest.raises(BadConfig):
        Config(url, "w")


@pytest.mark.parametrize("url", ["https://wms.example", "http://127.0.0.1:1", "http://localhost:80", "http://[::1]:1"])
def test_tls_anywhere_and_http_on_loopback_are_accepted(url: str) -> None:
    require_tls_off_loopback(url, "url")


@pytest.mark.parametrize("config", [{"token_file": "/nonexistent/token"}, {"token_variable": "FORESTALL_NO_SUCH"}])
def test_a_missing_token_is_named(config: dict[str, str]) -> None:
    with pytest.raises(BadConfig, match=next(iter(config.values()))):
        wms(status(200), **config)


@pytest.mark.parametrize(
    ("changes", "held", "said"),
    [
        ({}, True, ("b-1", "", "booked")),
        ({"equipment": "EQ 1"}, True, ("b-1", "EQ 1", "booked")),
        ({"state": "rejected"}, False, ("b-1", "", "rejected")),
        ({"state": "Booked"}, False, ("b-1", "", "Booked")),
        ({"state": None}, False, ("b-1", "", "None")),
        ({"id": None}, True, ("", "", "booked")),
        ({"id": 7}, True, ("7", "", "booked")),
        ({"id": ["b-1"]}, True, ("", "", "booked")),
        ({"equipment": None}, True, ("b-1", "", "booked")),
    ],
)
async def test_what_a_booking_says(changes: dict[str, Any], held: bool, said: tuple[str, str, str]) -> None:
    booking = await book(wms(status(201, {**BOOKED, **changes})))
    assert (booking.held, (booking.reference, booking.equipment, booking.state)) == (held, said)


@pytest.mark.parametrize(
    ("deleted", "left", "done"),
    [
        (204, "booked", True),
        (404, "booked", True),
        (410, "booked", True),
        (200, "cancelled", True),
        (202, "declined", True),
        (202, None, True),
        (409, "expired", True),
        (200, "booked", False),
        (202, "pending", False),
        (409, "booked", False),
        (202, "cancelling", False),
    ],
)
async def test_only_what_is_gone_is_released(deleted: int, left: str | None, done: bool) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            return httpx.Response(deleted)
        return httpx.Response(404) if left is None else httpx.Response(200, json={**BOOKED, "state": left})

    if done:
        await wms(answer).release("key-12345")
    else:
        with pytest.raises(OutcomeUnknown, match=str(deleted)):
            await wms(answer).release("key-12345")


def guarded(*good: str, seen: list[str] | None = None) -> Callable[[httpx.Request], httpx.Response]:
    """A WMS that knows these tokens."""

    def answer(request: httpx.Request) -> httpx.Response:
        told = request.headers.get("authorization", "").removeprefix("Bearer ")
        if seen is not None:
            seen.append(told)
        return httpx.Response(201, json=BOOKED) if told in good else httpx.Response(401)

    return answer


async def test_a_token_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")
    tokens = ["old"]
    system = wms(lambda request: guarded(*tokens)(request), token_file=str(token))
    await book(system)
    tokens[:] = ["new"]
    with pytest.raises(Retryable, match=f"WMS answered 401: it does not accept the token in {token}"):
        await book(system)
    token.write_text("new\n")
    await book(system)


async def test_a_token_that_changes_while_it_is_refused_is_tried_at_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        token.write_text("new")
        return guarded("new", seen=seen)(request)

    await book(wms(answer, token_file=str(token)))
    assert seen == ["old", "new"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"a\nb", "one line"), (b"\xff\xfe", "one line")],
)
async def test_a_token_that_cannot_be_read_is_named_and_waited_for(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    token = tmp_path / "token"
    token.write_text("good")
    system = wms(guarded("good"), token_file=str(token))
    if content is None:
        token.unlink()
    else:
        token.write_bytes(content)
    with pytest.raises(Retryable, match=said) as raised:
        await book(system)
    assert "\n" not in str(raised.value) and str(token) in str(raised.value)
    token.write_text("good")
    await book(system)
