"""To which WMS a booking went: it is looked up and undone there, wherever its machine stands by now.

The request of the act keeps the site, the kind of WMS and its settings (never a secret: settings name the files that
hold them). While the site still speaks to that same system its present settings are used, so that a token that moved to
another file is found; otherwise those of then. A booking of an earlier version, which does not say, went to the site at
which its case was opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fleet_core.errors import BadInput
from fleet_server.connectors.wms.api import WarehouseSystem
from fleet_server.resolution.records import CaseFile
from fleet_server.resolution.requests import BookingRequest, Receiver, read_request
from fleet_server.resolution.rows import Act, Site
from fleet_server.resolution.runtime import Runtime
from fleet_server.store.fetch import fetch_one
from fleet_server.store.pool import Connection
from fleet_server.store.sql import queries

_sql = queries("resolution")
_ACCESS = ("token", "password", "secret", "ca_file", "certificate", "key")
"""Parts of the names of settings that say how a system is entered, not which one it is."""


def receiver_of(site: Site) -> Receiver:
    """The WMS of a site as it is configured now, without what may be a secret itself."""
    return Receiver(site.site_id, site.wms_kind, {k: v for k, v in site.wms_config.items() if not _is_secret(k)})


def went_to(file: CaseFile, booking: Act) -> str:
    """The site whose WMS has the booking."""
    receiver = _receiver(booking)
    return file.case.site_id if receiver is None else receiver.site_id


async def wms_of_booking(rt: Runtime, conn: Connection, file: CaseFile, booking: Act) -> WarehouseSystem:
    """The WMS that has the booking. Raises BadConfig when its settings are wrong."""
    receiver = _receiver(booking)
    async with conn.transaction():
        site_id = file.case.site_id if receiver is None else receiver.site_id
        site = await fetch_one(conn, Site, _sql.site_by_id, {"site_id": site_id})
    if receiver is None:
        return rt.wms_of(site or file.site)
    if site is not None and _system(site.wms_kind, site.wms_config) == _system(receiver.kind, receiver.settings):
        return rt.wms_of(site)
    return rt.wms_of(
        replace(site or file.site, site_id=receiver.site_id, wms_kind=receiver.kind, wms_config=receiver.settings)
    )


def _receiver(booking: Act) -> Receiver | None:
    """None also when the request cannot be read: to be undone a booking needs no more than its key."""
    try:
        return read_request(booking, BookingRequest).receiver
    except BadInput:
        return None


def _system(kind: str, settings: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    return kind, {name: value for name, value in settings.items() if not any(word in name for word in _ACCESS)}


def _is_secret(name: str) -> bool:
    return any(word in name for word in _ACCESS) and not name.endswith(("_file", "_variable"))
