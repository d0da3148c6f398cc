"""The notifier email: a mail cannot be bent by what it quotes, and honest answers about what became of it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar
from support.messages import NOW, message
from support.notifiers import Rig
from support.resolution import Servers

from demo.mail_sink import distinct
from demo.processes import Keeper, free_port
from fleet_core.errors import BadConfig, OutcomeUnknown, Permanent, Retryable
from fleet_core.plugins import parse_config
from fleet_server.notifiers.api import CalendarEntry, Message, one_line
from fleet_server.notifiers.email import Config, EmailNotifier

ANNA = "anna@people.example"


def rig(directory: Path, keeper: Keeper) -> Rig:
    """For the conformance suite: a real SMTP server, and a port where none is."""
    sink = Servers(keeper, directory)
    sink.start_sink()
    silent = EmailNotifier(Config(port=free_port(), security="none", timeout_s=1.0))
    return Rig(_notifier(sink), silent, ANNA, ANNA, lambda: [mail["message_id"] for mail in sink.mails()])


def render(sent: Message) -> Any:
    raw = EmailNotifier(Config(security="none", sender="f@f.example")).render(sent).as_bytes()
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


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"host": "mail.example.com", "security": "none"}, "security: plain SMTP to 'mail.example.com' is refused"),
        ({"sender": "nobody"}, "sender: 'nobody' is not a mail address"),
        ({"security": "maybe"}, "security: expected 'none' or 'starttls' or 'tls'"),
        ({"port": 70_000}, "port must be 0 to 65535"),
        ({"timeout_s": 0}, "timeout_s must be above 0"),
        ({"hots": "mail"}, "unknown setting 'hots'; there are: host, port"),
    ],
)
def test_a_wrong_setting_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig, match=f"notifiers.email.*{said}"):
        parse_config(Config, table, "notifiers.email")


@pytest.fixture
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers]:
    with Keeper(tmp_path / "log") as keeper:
        servers = Servers(keeper, tmp_path)
        servers.start_sink(*request.param)
        yield servers


def _notifier(sink: Servers) -> EmailNotifier:
    return EmailNotifier(Config(port=sink.mail_port, security="none", sender="f@f.example", timeout_s=1.0))


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


async def test_a_missing_password_is_named_and_waited_for(tmp_path: Path) -> None:
    missing = tmp_path / "password"
    notifier = EmailNotifier(Config(port=1, security="none", username="forestall", password_file=missing))
    with pytest.raises(Retryable, match=f"password_file {missing}: No such file"):
        await notifier.send(message())
    missing.write_text("")
    with pytest.raises(Retryable, match=f"password_file must hold .*{missing} is empty"):
        await notifier.send(message())
