"""Settings of the fleet server: one TOML file, checked on start.

The file holds no secrets: it names the files that hold them (``*_file``), readable by the server's account only. Domain
settings that differ by customer or site (policy, WMS) are rows in the database. The table of a notifier is checked when
its plugin is loaded; here only its relative paths are made absolute.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleet_core.clock import Clock, clock_from_environment, clock_from_spec
from fleet_core.errors import BadConfig
from fleet_core.network import is_loopback

Port = Annotated[int, Field(ge=0, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(_Part):
    """Either ``dsn`` of a PostgreSQL server, or ``embedded_dir``: our own small server on loopback."""

    dsn: str = ""
    embedded_dir: Path | None = None
    embedded_port: Port = 0
    pool_size: int = Field(8, ge=1, le=64)
    statement_timeout_s: float = Field(15.0, gt=0)


class Broker(_Part):
    """The broker: plain MQTT on this machine only; any other broker is reached by TLS with the server's certificate."""

    host: str = "127.0.0.1"
    port: Port = 1883
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    host_id: str = "forestall"

    @model_validator(mode="after")
    def _encrypted_off_loopback(self) -> Broker:
        files = (self.ca_file, self.cert_file, self.key_file)
        if any(files) and not all(files):
            raise ValueError("TLS needs ca_file, cert_file and key_file together")
        if not any(files) and not is_loopback(self.host):
            raise ValueError(
                f"plain MQTT to {self.host!r} is refused; set ca_file, cert_file and key_file"
                " (`fleet-provision service-cert` writes them), or use a broker on 127.0.0.1"
            )
        return self


class Ingest(_Part):
    batch_window_ms: int = Field(30, ge=1, le=1000)
    max_queue: int = Field(20_000, ge=100)
    ack_interval_ms: int = Field(100, ge=10, le=200)
    quarantine_bytes: int = Field(16_384, ge=256)
    retention_days: int = Field(365, ge=1)
    ledger_grace_s: float = Field(60.0, gt=0)
    held_report_age_s: float = Field(86_400.0, gt=0)
    key_days: int = Field(30, ge=1)
    metrics_port: Port = 0


class Worker(_Part):
    metrics_port: Port = 0


class Web(_Part):
    host: str = "127.0.0.1"
    port: Port = 8080
    session_hours: float = Field(12.0, gt=0)
    public_url: str = ""
    trusted_proxies: list[str] = ["127.0.0.1"]


class Audit(_Part):
    signing_key_file: Path = Path("audit.key")
    checkpoint_file: Path = Path("audit.checkpoints.jsonl")
    interval_ms: int = Field(300, ge=50)


class Connectors(_Part):
    """The plugin of each kind of connector; the WMS is chosen for each site, in the database."""

    entitlement: str = "own_tables"
    parts: str = "own_tables"
    field_service: str = "own_tables"
    timeout_s: float = Field(5.0, gt=0)


def _email_alone() -> dict[str, dict[str, Any]]:
    return {"email": {}}


class Settings(_Part):
    """All settings of the server's processes; relative paths count from the folder of the settings file."""

    clock: str = ""
    database: Database = Database()
    broker: Broker = Broker()
    ingest: Ingest = Ingest()
    worker: Worker = Worker()
    web: Web = Web()
    audit: Audit = Audit()
    connectors: Connectors = Connectors()
    notifiers: dict[str, dict[str, Any]] = Field(default_factory=_email_alone)
    metrics_host: str = "127.0.0.1"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("notifiers", mode="before")
    @classmethod
    def _tables(cls, value: object) -> object:
        if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
            raise ValueError("each channel is a table of its own, as in [notifiers.email]")
        return value


def load_settings(path: Path) -> Settings:
    """Read and check a settings file. Raises BadConfig naming the setting and what is wrong with it."""
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        raise BadConfig(f"{path}: no such file; `fleet-server init --dir DIR` writes a first one") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None
    try:
        settings = Settings.model_validate(_rooted(table, path.resolve().parent))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadConfig(f"{path}: {where}: {_said(first['type'], first['msg'])}") from None
    if not settings.database.dsn and settings.database.embedded_dir is None:
        raise BadConfig(f"{path}: database: set dsn (a PostgreSQL server) or embedded_dir (our own on loopback)")
    return settings


def _said(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown setting; remove it or mend its name"
    return message.removeprefix("Value error, ")


def _rooted(value: Any, root: Path, key: str = "") -> Any:
    """Make the relative paths of a table absolute, so that no process depends on where it was started."""
    if isinstance(value, dict):
        return {name: _rooted(item, root, name) for name, item in value.items()}
    if isinstance(value, str) and value and key.endswith(("_file", "_dir")):
        return str((root / value) if not Path(value).is_absolute() else value)
    return value


def clock_of(settings: Settings) -> Clock:
    """The domain clock: that of the settings, else that of the environment, else the system's clock."""
    return clock_from_spec(settings.clock) if settings.clock else clock_from_environment()
