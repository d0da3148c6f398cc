"""Reads ``agent.toml`` and checks it; the configuration becomes dataclasses.

Relative paths count from the file's folder. Identity and broker may come from the bundle that enrolment wrote
(``[uplink] bundle``); names that the file gives beside it must agree with it. Failure: BadConfig with the setting's
name and the remedy. An unknown setting is an error, because it is usually a misspelt one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edge_agent.acquisition.api import AssetDescription
from edge_agent.prior_file import with_prior
from fleet_core.assets import AssetClass
from fleet_core.errors import BadConfig, BadInput
from fleet_core.network import is_loopback
from fleet_core.telemetry import ComponentSpec, check_identity, check_name

MAX_CONFIG_BYTES = 1 << 20
MAX_ASSETS = 64
LOG_LEVELS = ("debug", "info", "warning", "error")
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class UplinkConfig:
    """The broker's address, and the three files of TLS with a client certificate. Without the files the broker must be
    on this machine.
    """

    host: str
    port: int
    host_id: str = "forestall"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class AssetConfig:
    """One asset: the configuration's part of its description, its source and its detection settings."""

    description: AssetDescription
    source_type: str
    source: Mapping[str, Any]
    detection: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AgentConfig:
    """The whole configuration (docs/agent-configuration.md).

    ``base_dir`` is the file's folder; intervals are real time.
    """

    node_id: str
    group_id: str
    base_dir: Path
    state_dir: Path
    log_level: str
    save_interval_s: float
    uplink: UplinkConfig
    quota_mb: int
    flush_interval_s: float
    commit_interval_ms: int
    assets: tuple[AssetConfig, ...]


def load_config(path: Path) -> AgentConfig:
    """Read and check the file. Raises BadConfig."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise BadConfig(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
        record = tomllib.loads(text.decode())
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not TOML: {error}") from None
    try:
        return parse_config(record, path.absolute().parent)
    except BadInput as error:
        raise BadConfig(f"{path}: {error}") from None
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from None


def parse_config(record: Mapping[str, Any], base_dir: Path) -> AgentConfig:
    """The configuration of a parsed TOML document. Raises BadConfig or BadInput."""
    top = _Table(record, "")
    agent, uplink, outbox = (_Table(top.take(name, dict, {}), name) for name in ("agent", "uplink", "outbox"))
    assets = top.take("asset", list, [])
    node_id, group_id = agent.take("node_id", str, ""), agent.take("group_id", str, "")
    bundle_dir = uplink.take("bundle", str, "")
    if bundle_dir:
        from provisioning.device import load_bundle  # imports cryptography: 10 MB that an agent without TLS saves

        bundle = load_bundle(base_dir / bundle_dir)
        if node_id not in ("", bundle.node_id) or group_id not in ("", bundle.group_id):
            raise BadConfig("[agent] node_id or group_id is not the bundle's: leave them out or enrol again")
        node_id, group_id = bundle.node_id, bundle.group_id
        defaults = (bundle.host, bundle.port, str(bundle.ca_file), str(bundle.cert_file), str(bundle.key_file))
    else:
        defaults = ("127.0.0.1", 1883, "", "", "")
    log_level = agent.take("log_level", str, "info")
    if log_level not in LOG_LEVELS:
        raise BadConfig(f"[agent] log_level {log_level!r} is not one of {', '.join(LOG_LEVELS)}")
    config = AgentConfig(
        node_id=check_identity(node_id),
        group_id=check_identity(group_id),
        base_dir=base_dir,
        state_dir=base_dir / agent.take("state_dir", str, "var/agent"),
        log_level=log_level,
        save_interval_s=agent.number("save_interval_s", 900.0, 5.0, 86_400.0),
        uplink=_uplink(uplink, base_dir, defaults),
        quota_mb=outbox.number("quota_mb", 256, 1, 1 << 20),
        flush_interval_s=outbox.number("flush_interval_s", 5.0, 0.05, 3600.0),
        commit_interval_ms=outbox.number("commit_interval_ms", 50, 0, 5000),
        assets=tuple(_asset(_Table(item, f"asset {index}"), base_dir) for index, item in enumerate(assets, 1)),
    )
    for table in (top, agent, uplink, outbox):
        table.finish()
    ids = [asset.description.device_id for asset in config.assets]
    if not ids or len(ids) > MAX_ASSETS or len(set(ids)) != len(ids):
        raise BadConfig(f"[[asset]] must name 1 to {MAX_ASSETS} assets, each device_id once")
    return config


def _uplink(table: _Table, base_dir: Path, defaults: tuple[str, int, str, str, str]) -> UplinkConfig:
    host, port, *files = defaults
    names = ("ca_file", "cert_file", "key_file")
    paths = [
        base_dir / text if (text := table.take(name, str, default)) else None
        for name, default in zip(names, files, strict=True)
    ]
    if any(paths) and not all(paths):
        raise BadConfig("[uplink] TLS needs ca_file, cert_file and key_file together")
    host = table.take("host", str, host) or host
    if not any(paths) and not is_loopback(host):
        raise BadConfig(
            f"[uplink] plain MQTT to {host!r} is refused; enrol this device (edge-agent enrol) and name its bundle, or"
            " give ca_file, cert_file and key_file"
        )
    return UplinkConfig(
        host,
        table.number("port", port, 1, 65535),
        check_identity(table.take("host_id", str, "forestall")),
        *paths,
    )


def _asset(table: _Table, base_dir: Path) -> AssetConfig:
    source, detection = table.take("source", dict), table.take("detection", dict, {})
    components = table.take("component", list, [])
    asset_class = table.take("class", str)
    if asset_class not in tuple(AssetClass):
        raise BadConfig(f"[[asset]] class {asset_class!r} is not one of {', '.join(AssetClass)}")
    description = AssetDescription(
        device_id=check_identity(table.take("device_id", str)),
        asset_class=AssetClass(asset_class),
        model=table.take("model", str, "")[:128],
        serial=table.take("serial", str, "")[:128],
        components=tuple(_component(_Table(item, "asset.component")) for item in components),
        firmware=table.take("firmware", str, "")[:128],
    )
    table.finish()
    source_table = _Table(source, "asset.source")
    source_type = source_table.take("type", str)
    return AssetConfig(description, source_type, source_table.rest(), with_prior(detection, base_dir))


def _component(table: _Table) -> ComponentSpec:
    component = ComponentSpec(
        slot=check_name(table.take("slot", str)),
        type=check_name(table.take("type", str)),
        serial=table.take("serial", str, "")[:128],
        part_no=table.take("part_no", str, "")[:128],
    )
    table.finish()
    return component


_REQUIRED: Any = object()


class _Table:
    """A TOML table that notes which of its keys were asked for, so that ``finish`` can refuse the others."""

    def __init__(self, record: Any, name: str) -> None:
        self._name = f"[{name}] " if name else ""
        if not isinstance(record, Mapping):
            raise BadConfig(f"{self._name}is not a table")
        self._left = dict(record)

    def take(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        value = self._left.pop(key, default)
        if value is _REQUIRED:
            raise BadConfig(f"{self._name}{key} is missing")
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise BadConfig(f"{self._name}{key} must be a {kind.__name__}, not {value!r}")
        return value

    def number(self, key: str, default: N, low: N, high: N) -> N:
        """A number from ``low`` to ``high``, of the default's type. A whole number is accepted for a float."""
        kind = type(default)
        value = self.take(key, int if isinstance(self._left.get(key), int) else kind, default)
        if not low <= value <= high:
            raise BadConfig(f"{self._name}{key} must be {low} to {high}, not {value}")
        return kind(value)

    def rest(self) -> dict[str, Any]:
        return self._left

    def finish(self) -> None:
        if self._left:
            raise BadConfig(f"{self._name}unknown setting {', '.join(sorted(self._left))}; remove it or mend its name")
