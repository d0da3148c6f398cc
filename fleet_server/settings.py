"""Settings of the fleet server: one TOML file, checked on start.

Secrets are not in it: they are files it names (``*_file``), readable by the server's account only. Domain settings
that differ by customer or site (policy, WMS) are rows in the database, not settings.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_core.errors import BadConfig

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
    host: str = "127.0.0.1"
    port: Port = 1883
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    host_id: str = "forestall"


class Ingest(_Part):
    batch_window_ms: int = Field(30, ge=1, le=1000)
    max_queue: int = Field(20_000, ge=100)
    ack_interval_ms: int = Field(100, ge=10, le=200)
    quarantine_bytes: int = Field(16_384, ge=256)
    retention_days: int = Field(365, ge=1)
    ledger_grace_s: float = Field(60.0, gt=0)
    metrics_port: Port = 0


class Web(_Part):
    host: str = "127.0.0.1"
    port: Port = 8080
    session_hours: float = Field(12.0, gt=0)
    public_url: str = ""


class Audit(_Part):
    signing_key_file: Path = Path("audit.key")
    checkpoint_file: Path = Path("audit.checkpoints.jsonl")
    interval_ms: int = Field(300, ge=50)


class Mail(_Part):
    host: str = "127.0.0.1"
    port: Port = 25
    sender: str = "forestall@localhost"
    username: str = ""
    password_file: Path | None = None
    security: Literal["none", "starttls", "tls"] = "starttls"
    timeout_s: float = Field(5.0, gt=0)


class Webhook(_Part):
    secret_file: Path | None = None
    timeout_s: float = Field(5.0, gt=0)


class Connectors(_Part):
    """Which plugin serves each kind. The WMS is chosen by site, in the database."""

    entitlement: str = "own_tables"
    parts: str = "own_tables"
    field_service: str = "own_tables"
    timeout_s: float = Field(5.0, gt=0)


class Settings(_Part):
    """Everything the server's processes need to start. Paths are relative to the file they stand in."""

    clock: str = ""
    database: Database = Database()
    broker: Broker = Broker()
    ingest: Ingest = Ingest()
    web: Web = Web()
    audit: Audit = Audit()
    mail: Mail = Mail()
    webhook: Webhook = Webhook()
    connectors: Connectors = Connectors()
    notifiers: tuple[str, ...] = ("email",)
    log_level: Literal["debug", "info", "warning", "error"] = "info"


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
        raise BadConfig(f"{path}: {where}: {first['msg']}") from None
    if not settings.database.dsn and settings.database.embedded_dir is None:
        raise BadConfig(f"{path}: database: set dsn (a PostgreSQL server) or embedded_dir (our own on loopback)")
    return settings


def _rooted(value: Any, root: Path, key: str = "") -> Any:
    """Make the relative paths of a table absolute, so that no process depends on where it was started."""
    if isinstance(value, dict):
        return {name: _rooted(item, root, name) for name, item in value.items()}
    if isinstance(value, str) and value and key.endswith(("_file", "_dir")):
        return str((root / value) if not Path(value).is_absolute() else value)
    return value
