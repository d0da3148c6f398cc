"""``fleet-provision``: the authority's command line. One clear line and exit code 2 when something is wrong.

Identities live in real time, whatever clock the rest of the fleet is told to use (certificates.py says why).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from rich.console import Console
from rich.table import Table

from fleet_core.clock import SystemClock
from fleet_core.errors import BadConfig, ForestallError
from fleet_core.service import EXIT_FAILED
from provisioning.authority import PASSPHRASE_VARIABLE, Authority, Issued
from provisioning.broker_acl import DEFAULT_HOST_ID, BrokerSettings, ServiceRole, render_conf
from provisioning.broker_files import BrokerFiles, signal_by_pid_file
from provisioning.claims import issue_claim
from provisioning.enrolment import BrokerAddress, create_app
from provisioning.files import write_if_changed

app = typer.Typer(
    help="Identities of the fleet: authority, certificates, claims, enrolment, revocation, broker rights.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)

Directory = Annotated[Path, typer.Option("--dir", help="The authority's folder.", envvar="FORESTALL_AUTHORITY")]
HostId = Annotated[
    str, typer.Option(help="The Sparkplug host whose STATE the server writes.", envvar="FORESTALL_HOST_ID")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_DIRECTORY = Path("authority")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """``90s``, ``30m``, ``1h`` or ``2d``. Raises BadConfig."""
    match = re.fullmatch(r"(\d{1,7})([smhd])", text.strip())
    if not match:
        raise BadConfig(f"a duration is a whole number with s, m, h or d, such as 1h; not {text!r}")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


@app.command()
def init(
    directory: Directory = _DIRECTORY,
    name: Annotated[str, typer.Option(help="Common name of the root certificate.")] = "Forestall fleet authority",
    as_json: AsJson = False,
) -> None:
    """Make a new authority. Set FORESTALL_CA_PASSPHRASE to encrypt its key."""
    authority = Authority.create(directory, SystemClock(), name, _passphrase())
    _show({"directory": str(authority.directory), "ca_fingerprint": authority.ca_fingerprint}, as_json)


@app.command()
def server_cert(
    name: Annotated[str, typer.Argument(help="Name of the server, e.g. broker.")] = "broker",
    host: Annotated[list[str] | None, typer.Option(help="An address it answers to; may be repeated.")] = None,
    dns: Annotated[list[str] | None, typer.Option(help="A name it answers to; may be repeated.")] = None,
    directory: Directory = _DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Issue (or renew) a TLS server's key and certificate."""
    _show(_files(_open(directory).issue_server(name, [*(host or []), *(dns or [])])), as_json)


@app.command()
def service_cert(
    name: Annotated[str, typer.Argument(help="Its name on the broker, e.g. fleet-server.")],
    role: Annotated[ServiceRole, typer.Option(help="server: reads all, commands; observer: reads all.")] = (
        ServiceRole.SERVER
    ),
    directory: Directory = _DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Issue (or renew) the key and client certificate of a program that uses the broker and is not a node."""
    _show(_files(_open(directory).issue_service(name, role)), as_json)


@app.command()
def claim(
    node: Annotated[str, typer.Option(help="The node's name, unique in the fleet.")],
    group: Annotated[str, typer.Option(help="The site it belongs to.")],
    ttl: Annotated[str, typer.Option(help="How long it may be used: 30m, 1h, 2d.")] = "1h",
    directory: Directory = _DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Issue a single-use claim for one device. It is shown once."""
    authority = _open(directory)
    issued = issue_claim(authority, node, group, parse_duration(ttl))
    _show(
        {
            "claim": issued.secret,
            "node_id": issued.node.node_id,
            "group_id": issued.node.group_id,
            "expires_at": issued.expires_at.isoformat(timespec="seconds"),
            "ca_fingerprint": authority.ca_fingerprint,
        },
        as_json,
    )


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; the certificate is issued for it.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8443,
    dns: Annotated[list[str] | None, typer.Option(help="More names the certificate answers to.")] = None,
    broker_host: Annotated[str, typer.Option(help="Where enrolled nodes connect.")] = "127.0.0.1",
    broker_port: Annotated[int, typer.Option(min=1, max=65535)] = 8883,
    broker_dir: Annotated[
        Path | None, typer.Option(help="Publish rights and revocations here, as they change.")
    ] = None,
    broker_pid_file: Annotated[Path | None, typer.Option(help="Send SIGHUP to this mosquitto after a change.")] = None,
    host_id: HostId = DEFAULT_HOST_ID,
    directory: Directory = _DIRECTORY,
) -> None:
    """Run the enrolment service over HTTPS until interrupted."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    authority = _open(directory)
    own = authority.issue_server("enrolment", [host, *(dns or [])])
    files = _broker_files(authority, broker_dir, broker_pid_file, host_id) if broker_dir else None
    service = create_app(
        authority,
        BrokerAddress(broker_host, broker_port),
        files.publish if files else lambda: False,
        clock=authority.clock,
        on_failure=lambda: server.fail(),
    )
    config = uvicorn.Config(
        service,
        host=host,
        port=port,
        ssl_certfile=str(own.cert_file),
        ssl_keyfile=str(own.key_file),
        limit_concurrency=64,
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=16 * 1024,
        http="h11",
        server_header=False,
        access_log=False,
        log_config=None,
    )
    server = _Server(config)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after its orderly end
        server.run()
    if server.failed or not server.started:
        raise typer.Exit(EXIT_FAILED)


class _Server(uvicorn.Server):
    """Ends in order when a part of the service failed; the reason is in the log."""

    failed = False

    def fail(self) -> None:
        self.failed = self.should_exit = True


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The node, service or server to withdraw.")],
    broker_dir: Annotated[Path | None, typer.Option(help="Publish to the broker at once.")] = None,
    broker_pid_file: Annotated[Path | None, typer.Option(help="Send SIGHUP to this mosquitto.")] = None,
    host_id: HostId = DEFAULT_HOST_ID,
    directory: Directory = _DIRECTORY,
    as_json: AsJson = False,
) -> None:
    """Withdraw an identity: its certificates, its rights and its open claims."""
    authority = _open(directory)
    count = authority.revoke(name)
    if broker_dir:
        _broker_files(authority, broker_dir, broker_pid_file, host_id).publish()
    _show({"revoked": name, "certificates": count, "published": broker_dir is not None}, as_json)


@app.command("list")
def list_identities(directory: Directory = _DIRECTORY, as_json: AsJson = False) -> None:
    """List identities and counters."""
    authority = _open(directory)
    identities, counters = authority.identities(), authority.registry.counters()
    if as_json:
        rows = [dataclasses.asdict(identity) for identity in identities]
        print(json.dumps({"identities": rows, "counters": counters}, default=lambda moment: moment.isoformat()))
        return
    table = Table("name", "kind", "group", "valid until", "state")
    for one in identities:
        state = f"revoked {one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "valid"
        table.add_row(one.name, one.kind, one.group_id or one.role, f"{one.not_after:%Y-%m-%d}", state)
    out.print(table)
    out.print("  ".join(f"{name}: {count}" for name, count in counters.items()))


@app.command()
def broker_acl(
    target: Annotated[Path, typer.Option("--out", help="Folder for the broker's files.")],
    server: Annotated[str, typer.Option(help="Server certificate to install; see server-cert.")] = "broker",
    host: Annotated[str, typer.Option(help="Address the broker listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8883,
    data_dir: Annotated[Path, typer.Option(help="Where mosquitto keeps what it persists.")] = Path(
        "/var/lib/mosquitto"
    ),
    host_id: HostId = DEFAULT_HOST_ID,
    broker_pid_file: Annotated[Path | None, typer.Option(help="Send SIGHUP to this mosquitto after a change.")] = None,
    as_json: AsJson = False,
    directory: Directory = _DIRECTORY,
) -> None:
    """Render the broker's configuration, rights, revocation list and certificates into one folder."""
    authority = _open(directory)
    folder = authority.directory / "issued" / server
    issued = Issued(server, authority.ca_file, folder / "tls.crt", folder / "tls.key")
    if not issued.cert_file.exists():
        raise BadConfig(f"no certificate for {server!r}: run 'fleet-provision server-cert {server} --host {host}'")
    files = _broker_files(authority, target, broker_pid_file, host_id, issued)
    changed = files.publish()
    conf = render_conf(BrokerSettings(data_dir=data_dir.absolute(), host=host, port=port, secure=files.files))
    restart = write_if_changed(target.absolute() / "mosquitto.conf", conf.encode())
    _show({"directory": str(target.absolute()), "changed": changed or restart, "restart_needed": restart}, as_json)


def main() -> None:
    """Entry point."""
    try:
        app()
    except (ForestallError, OSError) as error:
        print(f"fleet-provision: {error}", file=sys.stderr)
        sys.exit(2)


def _passphrase() -> bytes | None:
    return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None


def _open(directory: Path) -> Authority:
    return Authority(directory, SystemClock(), _passphrase())


def _broker_files(
    authority: Authority,
    target: Path,
    pid_file: Path | None,
    host_id: str,
    server: Issued | None = None,
) -> BrokerFiles:
    reload = signal_by_pid_file(pid_file) if pid_file else None
    return BrokerFiles(authority, target, server, host_id=host_id, reload=reload)


def _files(issued: Issued) -> dict[str, object]:
    return {
        "name": issued.name,
        "ca_file": str(issued.ca_file),
        "cert_file": str(issued.cert_file),
        "key_file": str(issued.key_file),
    }


def _show(values: dict[str, object], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values))
        return
    width = max(len(name) for name in values)
    for name, value in values.items():
        out.print(f"{name.replace('_', ' '):<{width}}  {value}", markup=False)


if __name__ == "__main__":
    main()
