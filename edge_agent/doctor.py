"""``edge-agent doctor``: checks whether this device is fit to run the agent, and says what mends it if not.

Every check gives ok, warn or fail with one line and, unless ok, the remedy. Checks change nothing: the outbox is opened
read-only, and the broker sees one connection over which nothing is sent.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from edge_agent.config import AgentConfig, AssetConfig, UplinkConfig
from edge_agent.host import time_quality
from edge_agent.outbox import check_outbox
from fleet_core.errors import BadConfig
from fleet_core.plugins import load_plugin, parse_config
from fleet_core.telemetry import EARLIEST_US
from fleet_core.tls import client_context

CONNECT_TIMEOUT_S = 3.0
REFUSAL_WITHIN_S = 2.0
"""Several round trips of a slow link; a refusal follows the handshake by one."""
RENEW_WITHIN_DAYS = 14
BACKWARDS_LIMIT_S = 60.0
"""How far the agent's files may be ahead of the clock."""


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``mend`` is the remedy, "" when the check is ok."""

    name: str
    verdict: Verdict
    message: str
    mend: str = ""


def examine(config: AgentConfig) -> list[Check]:
    """The results of all checks, for a configuration that could be read."""
    checks = [Check("config", Verdict.OK, f"{config.node_id} of {config.group_id}, {len(config.assets)} assets")]
    checks += [_clock(), _clock_floor(config), *_state_dir(config), _outbox(config), *_identity(config.uplink)]
    checks.append(broker_check(config.uplink))
    for asset in config.assets:
        checks += _source(asset)
    return checks


def _clock() -> Check:
    now_s = time.time()
    if now_s * 1e6 < EARLIEST_US:
        year = datetime.fromtimestamp(now_s, UTC).year
        return Check("clock", Verdict.FAIL, f"the clock says {year}", "set it, or start a time service (NTP)")
    quality = time_quality()
    if quality == "synchronised":
        return Check("clock", Verdict.OK, "synchronised")
    return Check("clock", Verdict.WARN, quality, "start a time service (systemd-timesyncd, chrony)")


def _clock_floor(config: AgentConfig) -> Check:
    """Compare the clock with the agent's files: a file from the future means that the clock was set back."""
    written_s = [path.stat().st_mtime for path in config.state_dir.glob("*") if path.is_file()]
    ahead_s = max(written_s, default=0.0) - time.time()
    if ahead_s > BACKWARDS_LIMIT_S:
        mend = "set the clock before the agent runs: its samples would be dated too early"
        return Check("clock floor", Verdict.FAIL, f"the clock is {ahead_s:.0f} s behind files written here", mend)
    return Check("clock floor", Verdict.OK, "no file is from the future")


def _state_dir(config: AgentConfig) -> Iterator[Check]:
    folder = config.state_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        yield Check("state folder", Verdict.FAIL, f"{existing} cannot be written", f"give this user {folder}")
        return
    yield Check("state folder", Verdict.OK, str(folder))
    free_mb = shutil.disk_usage(existing).free >> 20
    used_mb = sum(path.stat().st_size for path in folder.glob("outbox.sqlite*")) >> 20
    if free_mb + used_mb < config.quota_mb:
        mend = f"free {config.quota_mb - free_mb - used_mb} MB or lower [outbox] quota_mb"
        yield Check("free space", Verdict.WARN, f"{free_mb} MB free, the outbox may grow to {config.quota_mb}", mend)
    else:
        yield Check("free space", Verdict.OK, f"{free_mb} MB free")


def _outbox(config: AgentConfig) -> Check:
    path = config.state_dir / "outbox.sqlite"
    if not path.exists():
        return Check("outbox", Verdict.OK, "not there yet, the agent will make it")
    verdict = check_outbox(path)
    if verdict == "ok":
        return Check("outbox", Verdict.OK, f"sound, {path.stat().st_size >> 10} KiB")
    mend = "restart the agent: it sets the file aside and begins a new one; then look at the disk's health"
    return Check("outbox", Verdict.FAIL, verdict[:200], mend)


def _identity(uplink: UplinkConfig) -> Iterator[Check]:
    if uplink.cert_file is None or uplink.ca_file is None or uplink.key_file is None:
        local = uplink.host in ("127.0.0.1", "::1", "localhost")
        verdict = Verdict.OK if local else Verdict.FAIL
        mend = "" if local else "enrol this device (edge-agent enrol) and name its bundle in [uplink]"
        yield Check("certificate", verdict, "none: plain MQTT" + (" on this host" if local else ""), mend)
        return
    try:
        from cryptography import x509

        for name, path in (("certificate", uplink.cert_file), ("authority", uplink.ca_file)):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            yield _validity(name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        client_context(uplink.ca_file, uplink.cert_file, uplink.key_file)
    except (OSError, ValueError) as error:
        yield Check("certificate", Verdict.FAIL, f"cannot be used: {error}", "enrol this device again")


def _validity(name: str, start: datetime, end: datetime) -> Check:
    now = datetime.now(UTC)
    if now < start:
        return Check(name, Verdict.FAIL, f"not valid before {start:%Y-%m-%d}", "check the clock")
    if now >= end:
        return Check(name, Verdict.FAIL, f"expired on {end:%Y-%m-%d}", "enrol this device again")
    days = (end - now).days
    if days < RENEW_WITHIN_DAYS:
        return Check(name, Verdict.WARN, f"expires in {days} days", "renew it, or enrol again")
    return Check(name, Verdict.OK, f"valid for {days} days")


def broker_check(uplink: UplinkConfig) -> Check:
    """Whether the broker answers and lets this device's certificate in. Sends nothing.

    Under TLS 1.3 the client's handshake ends before the broker has judged its certificate; the refusal comes as the
    first thing to read. So it reads on, for ``REFUSAL_WITHIN_S`` at most: a broker that is content says nothing.
    """
    where = f"{uplink.host}:{uplink.port}"
    try:
        with socket.create_connection((uplink.host, uplink.port), CONNECT_TIMEOUT_S) as connection:
            if uplink.ca_file is None or uplink.cert_file is None:
                return Check("broker", Verdict.OK, f"{where} answers")
            context = client_context(uplink.ca_file, uplink.cert_file, uplink.key_file)
            with context.wrap_socket(connection, server_hostname=uplink.host) as secured:
                refusal = _refusal(secured)
                if refusal:
                    mend = "is it revoked or expired? Ask for a new claim and run `edge-agent enrol`"
                    return Check("broker", Verdict.FAIL, f"{where} refused the certificate: {refusal}", mend)
                return Check("broker", Verdict.OK, f"{where} answers with {secured.version()}")
    except ssl.SSLCertVerificationError as error:
        return Check("broker", Verdict.FAIL, f"{where}: {error.verify_message}", "check [uplink] host and ca_file")
    except OSError as error:
        mend = "check [uplink] host and port, the network, and that the broker runs; batches wait meanwhile"
        return Check("broker", Verdict.FAIL, f"{where}: {error}", mend)


def _refusal(secured: ssl.SSLSocket) -> str:
    """Why the broker ends the connection, "" when it keeps it."""
    secured.settimeout(REFUSAL_WITHIN_S)
    try:
        return "" if secured.recv(1) else "it closed the connection"
    except TimeoutError:
        return ""
    except ssl.SSLError as error:
        return (error.reason or str(error)).lower().replace("_", " ")
    except OSError as error:
        return error.strerror or str(error)


def _source(asset: AssetConfig) -> Iterator[Check]:
    name = f"source of {asset.description.device_id}"
    try:
        plugin = load_plugin("edge_agent.acquisition", asset.source_type)
        parse_config(plugin.Config, asset.source, f"[asset.source] of type {asset.source_type}")
    except BadConfig as error:
        yield Check(name, Verdict.FAIL, str(error), "mend [asset.source] or install what is missing")
        return
    yield Check(name, Verdict.OK, asset.source_type)
    port = asset.source.get("port")
    if isinstance(port, str) and port.startswith("/"):
        yield _serial_port(name, Path(port))


def _serial_port(name: str, port: Path) -> Check:
    if not port.exists():
        return Check(f"{name}: port", Verdict.FAIL, f"{port} is not there", "plug the device in, or mend the port")
    if not os.access(port, os.R_OK | os.W_OK):
        mend = "add this user to the group dialout (usermod -aG dialout USER) and log in again"
        return Check(f"{name}: port", Verdict.FAIL, f"{port} cannot be opened by this user", mend)
    return Check(f"{name}: port", Verdict.OK, str(port))
