"""What leaves: e-mail that cannot be bent by what it quotes, and honest answers about what became of it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar
from support.resolution import Servers

from demo.mail_sink import distinct
from demo.processes import Keeper
from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_server.notifiers.api import CalendarEntry, Message, one_line
from fleet_server.notifiers.email import EmailNotifier
from fleet_server.notifiers.webhook import WebhookNotifier
from fleet_server.settings import Mail, Webhook

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
ENTRY = CalendarEntry("c-1@forestall", 3, NOW, NOW + timedelta(hours=2), "Repair", "Hamburg", "text", NOW)
SECRET = "whsec_" + "eHh4" * 12


def message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "key": "c-1:message:announcement:email:0", "purpose": "announcement", "to_name": "Anna Öhm",
        "to_address": "anna@people.example", "subject": "Repair arranged", "text": "text\n", "html": "<p>t</p>",
        "calendar": ENTRY, "data": {"case_id": "c-1"},
    }  # fmt: skip
    return Message(**{**values, **changes})


def render(sent: Message) -> Any:
    raw = EmailNotifier(Mail(security="none", sender="f@f.example")).render(sent).as_bytes()
    return email.message_from_bytes(raw, policy=email.policy.default)


def test_a_message_survives_its_row() -> None:
    assert Message.from_json(message().to_json()) == message()
    assert Message.from_json(message(calendar=None).to_json()) == message(calendar=None)


def test_the_thread_and_the_appointment() -> None:
    first = render(message())
    reply = render(message(key="c-1:message:closing:email:0", reply_to_key=message().key, calendar=None))
    assert reply["In-Reply-To"] == first["Message-ID"] == reply["References"]
    (attached,) = [part for part in first.walk() if part.get_content_type() == "text/calendar"]
    assert attached.get_param("method") == "REQUEST"
    (event,) = Calendar.from_ical(attached.get_content()).walk("VEVENT")
    assert (str(event["UID"]), int(event["SEQUENCE"]), event["DTSTART"].dt) == ("c-1@forestall", 3, NOW)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_makes_a_header(subject: str, name: str) -> None:
    hostile = f"{subject}\r\nBcc: evil@example.org\r\n\r\n{subject}"
    mail = render(message(subject=hostile, to_name=f"{name}\r\nBcc: evil@example.org"))
    assert mail["Bcc"] is None
    assert [address.addr_spec for address in mail["To"].addresses] == ["anna@people.example"]
    assert "\n" not in one_line(hostile)


@given(st.text(max_size=200))
def test_no_text_makes_a_calendar_property(text: str) -> None:
    hostile = f"{text}\r\nATTENDEE:mailto:evil@example.org\r\nEND:VEVENT"
    entry = CalendarEntry("u", 0, NOW, NOW, hostile, hostile, hostile, NOW)
    (part,) = [part for part in render(message(calendar=entry)).walk() if part.get_content_type() == "text/calendar"]
    (event,) = Calendar.from_ical(part.get_content()).walk("VEVENT")
    assert str(event["ATTENDEE"]) == "mailto:anna@people.example"


@pytest.mark.parametrize("address", ["", "anna", "a@b\r\nBcc: c@d", "a b@c", "@", "anna@x, eve@y"])
def test_an_impossible_address_is_permanent(address: str) -> None:
    with pytest.raises(Permanent):
        render(message(to_address=address))


@pytest.mark.parametrize("config", [{"host": "mail.example.com", "security": "none"}, {"sender": "nobody"}])
def test_a_wrong_setting_is_named(config: dict[str, str]) -> None:
    with pytest.raises(BadConfig, match="mail"):
        EmailNotifier(Mail(**{"security": "none", **config}))


@pytest.fixture
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    with Keeper(tmp_path / "log") as keeper:
        servers = Servers(keeper, tmp_path)
        servers.start_sink(*request.param)
        yield servers


def _notifier(sink: Servers) -> EmailNotifier:
    return EmailNotifier(Mail(port=sink.mail_port, security="none", sender="f@f.example", timeout_s=1.0))


@pytest.mark.integration
@pytest.mark.parametrize("sink", [("--tempfail", "1")], indirect=True)
async def test_come_again_is_retryable(sink: Servers) -> None:
    with pytest.raises(Retryable):
        await _notifier(sink).send(message())
    await _notifier(sink).send(message())
    assert len(sink.mails()) == 1


@pytest.mark.integration
@pytest.mark.parametrize("sink", [("--drop-after-accept", "1")], indirect=True)
async def test_a_lost_answer_is_unknown_and_the_repeat_is_the_same_mail(sink: Servers) -> None:
    with pytest.raises(OutcomeUnknown):
        await _notifier(sink).send(message())
    await _notifier(sink).send(message())
    assert len(sink.mails()) == 2 and len(distinct(sink.mails())) == 1


@pytest.mark.integration
@pytest.mark.parametrize("sink", [("--delay-s", "2")], indirect=True)
async def test_a_slow_answer_is_unknown(sink: Servers) -> None:
    with pytest.raises(OutcomeUnknown):
        await _notifier(sink).send(message())


def webhook(tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response]) -> WebhookNotifier:
    (tmp_path / "secret").write_text(SECRET)
    return WebhookNotifier(Webhook(secret_file=tmp_path / "secret"), httpx.MockTransport(answer))


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


@pytest.mark.parametrize("text", ["", "short", "whsec_", "whsec_###"])
def test_a_weak_secret_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    with pytest.raises(BadConfig):
        WebhookNotifier(Webhook(secret_file=tmp_path / "secret"))
    with pytest.raises(BadConfig):
        WebhookNotifier(Webhook())
