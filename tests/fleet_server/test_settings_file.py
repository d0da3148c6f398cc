"""server.toml: what is refused says where and how to mend it; notifiers are tables their plugins check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet_core.clock import SimulatedClock
from fleet_core.errors import BadConfig
from fleet_server.resolution.runtime import build_runtime
from fleet_server.settings import Settings, load_settings

TLS = 'ca_file = "ca.crt"\ncert_file = "tls.crt"\nkey_file = "tls.key"\n'


def settings(directory: Path, text: str) -> Settings:
    path = directory / "server.toml"
    path.write_text(f'{text}\n[database]\ndsn = "dbname=x"\n')
    return load_settings(path)


def notifiers_of(settings: Settings) -> list[str]:
    pool: Any = None  # nothing is asked of the database before a case needs it
    return list(build_runtime(settings, pool, SimulatedClock()).notifiers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[broker]\nprot = 1", "broker.prot: unknown setting"),
        ("[broker]\nport = 70000", "broker.port: Input should be less than"),
        ('[broker]\nhost = "broker.example"', "broker: plain MQTT to 'broker.example' is refused; set ca_file"),
        ('[broker]\nhost = "10.0.0.7"', "broker: plain MQTT to '10.0.0.7' is refused"),
        ('[broker]\nhost = ""', "broker: plain MQTT to '' is refused"),
        ('[broker]\ncert_file = "a"\nkey_file = "b"', "broker: TLS needs ca_file, cert_file and key_file together"),
        ('notifiers = ["email"]', "notifiers: each channel is a table of its own, as in [notifiers.email]"),
        ("[notifiers]\nemail = true", "notifiers: each channel is a table of its own"),
        ("[mail]\nport = 25", "mail: unknown setting"),
        ("[worker]\nmetrics_port = -1", "worker.metrics_port: "),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadConfig) as raised:
        settings(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/server.toml: {said}")


def test_a_broker_elsewhere_is_reached_with_tls(tmp_path: Path) -> None:
    broker = settings(tmp_path, f'[broker]\nhost = "broker.example"\nport = 8883\n{TLS}').broker
    assert (broker.host, broker.key_file) == ("broker.example", tmp_path / "tls.key")
    assert settings(tmp_path, '[broker]\nhost = "localhost"').broker.ca_file is None


def test_email_alone_is_used_unless_tables_say_otherwise(tmp_path: Path) -> None:
    assert notifiers_of(settings(tmp_path, "")) == ["email"]
    (tmp_path / "hook.secret").write_text("whsec_" + "eHh4" * 12)
    hook = '[notifiers.webhook]\nsecret_file = "hook.secret"\n'
    chosen = settings(tmp_path, hook)
    assert chosen.notifiers == {"webhook": {"secret_file": str(tmp_path / "hook.secret")}}  # from the file's folder
    assert notifiers_of(chosen) == ["webhook"]
    assert notifiers_of(settings(tmp_path, f"{hook}[notifiers.email]\n")) == ["webhook", "email"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[notifiers.pigeon]", "notifiers.pigeon: fleet_server.notifiers has no plugin 'pigeon'; there are: email"),
        ('[notifiers."../email"]', "notifiers.../email: fleet_server.notifiers has no plugin"),
        ("[notifiers.webhook]", "notifiers.webhook: setting 'secret_file' is missing"),
        ('[notifiers.webhook]\nsecret_file = "none"', "notifiers.webhook: secret_file "),
        ("[notifiers.email]\nhots = 1", "notifiers.email: unknown setting 'hots'; there are: host, port"),
        ('[notifiers.email]\nport = "25"', "notifiers.email.port: expected int, not '25'"),
        ('[notifiers.email]\nsecurity = "none"\nhost = "m.example"', "notifiers.email: security: plain SMTP"),
    ],
)
def test_a_wrong_table_of_a_notifier_is_named_before_work_begins(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadConfig) as raised:
        notifiers_of(settings(tmp_path, text))
    assert str(raised.value).startswith(said)
