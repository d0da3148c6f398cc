"""Publishing the authority's decisions to the broker: rights, revocation list, certificates; then SIGHUP.

Publishing is level-triggered: :meth:`BrokerFiles.publish` compares the folder with the authority's book, writes the
files that differ, and signals the broker only if any did. It is called after every enrolment and at intervals, so the
next call makes good a call that failed, and publishes a revocation made by another process.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from fleet_core.errors import BadConfig
from fleet_core.files import remove_left_behind
from provisioning.authority import Authority, Issued
from provisioning.broker_acl import DEFAULT_HOST_ID, SecureFiles, render_acl
from provisioning.certificates import CRL_LIFETIME
from provisioning.files import PRIVATE_MODE, write_if_changed

log = logging.getLogger(__name__)

_RENEW_LIST_BEFORE = CRL_LIFETIME - timedelta(days=1)
"""A new list every day: the broker's list goes stale only when nobody published for 29 days."""


class BrokerFiles:
    """The folder a broker reads. Only files that changed are written, every one atomically."""

    def __init__(
        self,
        authority: Authority,
        directory: Path,
        server: Issued | None = None,
        *,
        host_id: str = DEFAULT_HOST_ID,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """``server`` is the broker's own certificate, absent when the broker keeps it elsewhere."""
        self._authority = authority
        self._server = server
        self._host_id = host_id
        self._reload = reload
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        remove_left_behind(directory)
        # A folder with the set-group-ID bit hands its files to the broker's group: the broker is another user.
        self._private_mode = 0o640 if directory.stat().st_mode & stat.S_ISGID else PRIVATE_MODE
        self.files = SecureFiles(
            ca_file=directory / "ca.crt",
            cert_file=directory / "broker.crt",
            key_file=directory / "broker.key",
            crl_file=directory / "ca.crl",
            acl_file=directory / "acl",
        )

    def publish(self) -> bool:
        """Bring the folder up to date and have the broker read it. Returns whether anything changed."""
        nodes, services = self._authority.rights()
        changed = write_if_changed(self.files.ca_file, self._authority.ca_file.read_bytes())
        if self._server:
            changed |= write_if_changed(self.files.key_file, self._server.key_file.read_bytes(), self._private_mode)
            changed |= write_if_changed(self.files.cert_file, self._server.cert_file.read_bytes())
        if self._list_is_stale():
            changed |= write_if_changed(self.files.crl_file, self._authority.revocation_list())
        # The access list goes last: a broker that reads in between must not grant more than the other files say.
        changed |= write_if_changed(
            self.files.acl_file, render_acl(nodes, services, self._host_id).encode(), self._private_mode
        )
        if changed and self._reload:
            self._reload()
        return changed

    def _list_is_stale(self) -> bool:
        try:
            published = x509.load_pem_x509_crl(self.files.crl_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return True
        expires = published.next_update_utc
        if expires is None or expires - self._authority.clock.now() < _RENEW_LIST_BEFORE:
            return True
        listed = {entry.serial_number for entry in published}
        return any(entry.serial not in listed for entry in self._authority.revoked())


def signal_by_pid_file(pid_file: Path) -> Callable[[], None]:
    """A ``reload`` that sends SIGHUP to the mosquitto whose number stands in ``pid_file``.

    A broker that is not running needs no signal: it reads the files when it starts. A process number that now belongs
    to another program gets no signal.
    """

    def reload() -> None:
        try:
            pid = int(pid_file.read_text())
            program = Path(f"/proc/{pid}/comm").read_text().strip()
        except FileNotFoundError:
            log.info("no broker runs by %s; it will read its files when it starts", pid_file)
            return
        except ValueError:
            raise BadConfig(f"{pid_file} does not hold a process number") from None
        if program != "mosquitto":
            log.warning("process %d of %s is %s, not mosquitto: not signalled", pid, pid_file, program)
            return
        os.kill(pid, signal.SIGHUP)

    return reload
