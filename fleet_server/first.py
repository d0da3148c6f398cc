"""The first settings file of a server, and the key it names."""

from __future__ import annotations

from pathlib import Path

from fleet_core.errors import BadConfig
from fleet_server.audit.checkpoint import new_key

_SETTINGS = """\
# A Forestall server. Paths are relative to this file; secrets are files, never values.

[database]
embedded_dir = "postgres"         # our own PostgreSQL on loopback; or: dsn = "host=... dbname=... user=..."

[broker]
host = "127.0.0.1"
port = 1883                       # with TLS: 8883, ca_file, cert_file and key_file
host_id = "forestall"

[web]
host = "127.0.0.1"
port = 8080

[audit]
signing_key_file = "audit.key"
checkpoint_file = "checkpoints/audit.jsonl"   # best on another disk or host: it is what shows a shortened log

[notifiers.email]                 # each channel is a table; secrets, as password_file, are files
host = "127.0.0.1"
port = 25
sender = "forestall@localhost"
"""


def write_first_files(directory: Path) -> list[Path]:
    """Write ``server.toml`` and the audit key. Raises BadConfig when one is there already."""
    settings, key = directory / "server.toml", directory / "audit.key"
    for path in (settings, key):
        if path.exists():
            raise BadConfig(f"{path} is there already; choose another directory, or move it away")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "checkpoints").mkdir(exist_ok=True)
        new_key(key)
        settings.write_text(_SETTINGS)
    except OSError as error:
        raise BadConfig(f"{directory}: {error.strerror}; choose a directory you may write") from None
    return [settings, key]
