"""The HTTP interface of the reference WMS; its OpenAPI document is served at ``/openapi.json``."""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from demo.reference_wms.curve import HOUR, SHIFTS, Curve
from demo.reference_wms.faults import BENDS, Fault, FaultKind, Faults
from demo.reference_wms.store import BookingStore, Taken
from fleet_core.clock import Clock

MAX_SPAN = timedelta(days=100)
MAX_BOOKING = timedelta(days=7)
Name = Annotated[str, Field(min_length=1, max_length=120)]
Key = Annotated[str, Field(min_length=8, max_length=200)]


class BookingRequest(BaseModel):
    """Take ``equipment`` out of use from ``start`` to ``end`` (RFC 3339, with an offset)."""

    model_config = ConfigDict(extra="forbid")

    equipment: Name
    start: AwareDatetime
    end: AwareDatetime
    reason: str = Field("", max_length=500)


def create_app(store: BookingStore, curve: Curve, faults: Faults, clock: Clock, token: str) -> FastAPI:
    """The application. An empty ``token`` leaves it open (loopback only); ``/_`` paths are for tests and the demo."""
    app = FastAPI(title="Reference WMS", version="1.0", description="Load by hour and equipment bookings.")
    calls: Counter[str] = Counter()

    async def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if token and not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "bearer token missing or wrong")

    async def before(operation: str) -> Fault | None:
        """Count the call and meet its fault; returns the one that strikes after the booking, or bends it."""
        calls[operation] += 1
        fault = faults.draw(operation)
        if fault is None or fault.kind is FaultKind.TIMEOUT_AFTER_BOOKING or fault.kind in BENDS:
            return fault
        if fault.kind is FaultKind.DELAY:
            await asyncio.sleep(fault.delay_s)
            return None
        if fault.kind is FaultKind.REFUSE:
            raise Taken("not_wanted")
        raise HTTPException(500, "armed to fail")

    @app.exception_handler(Taken)
    async def refused(request: Request, error: Taken) -> JSONResponse:
        return JSONResponse({"reason": error.args[0]}, status_code=409)

    api: Any = {"dependencies": [Depends(authorised)]}

    @app.get("/v1/warehouses/{warehouse}/load", **api)
    async def load(
        warehouse: Name, start: Annotated[AwareDatetime, Query(alias="from")], to: AwareDatetime
    ) -> dict[str, Any]:
        """Expected orders by hour, and the warehouse's shifts in local time."""
        await before("load")
        _check_span(start, to)
        hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = []
        while hour < to:
            hours.append({"start": hour.isoformat(), "orders": curve.orders(warehouse, hour)})
            hour += HOUR
        shifts = [{"name": name, "start": begin, "end": end} for name, begin, end in SHIFTS]
        return {"warehouse": warehouse, "time_zone": str(curve.zone), "shifts": shifts, "hours": hours}

    @app.get("/v1/warehouses/{warehouse}/equipment/{equipment}/bookings", **api)
    async def bookings(
        warehouse: Name, equipment: Name, start: Annotated[AwareDatetime, Query(alias="from")], to: AwareDatetime
    ) -> dict[str, Any]:
        """When the equipment is out of use."""
        await before("bookings")
        _check_span(start, to)
        return {"bookings": [_shown(row) for row in store.of_equipment(warehouse, equipment, start, to)]}

    @app.post("/v1/warehouses/{warehouse}/bookings", status_code=201, **api)
    async def book(warehouse: Name, wanted: BookingRequest, idempotency_key: Annotated[Key, Header()]) -> JSONResponse:
        """Take equipment out of use. The same key again answers 200 with the same booking; a clash answers 409."""
        fault = await before("book")
        if not timedelta(0) < wanted.end - wanted.start <= MAX_BOOKING:
            raise HTTPException(422, "a booking ends after it starts and lasts at most 7 days")
        done, state = _done(wanted, fault)
        row, made = store.book(
            idempotency_key, warehouse, done.equipment, done.start, done.end, done.reason, clock.now(), state
        )
        if fault is not None and fault.kind is FaultKind.TIMEOUT_AFTER_BOOKING:
            await asyncio.sleep(fault.delay_s)
        shown = _shown(row)
        if fault is not None and fault.kind is FaultKind.ODD_STATE:
            shown["state"] = "planned-by-coordinator"
        if fault is not None and fault.kind is FaultKind.NO_REFERENCE:
            shown["id"] = ""
        return JSONResponse(shown, status_code=201 if made else 200)

    @app.get("/v1/warehouses/{warehouse}/bookings/by-key/{key}", **api)
    async def look_up(warehouse: Name, key: Key) -> dict[str, Any]:
        """The booking made under a key, 404 when there is none."""
        await before("lookup")
        row = store.by_key(key)
        if row is None or row["warehouse"] != warehouse:
            raise HTTPException(404, "no booking under this key")
        return _shown(row)

    @app.delete("/v1/warehouses/{warehouse}/bookings/by-key/{key}", status_code=204, **api)
    async def cancel(warehouse: Name, key: Key) -> Response:
        """Cancel what was booked under a key; a booking that arrives later with this key is refused."""
        fault = await before("cancel")
        known = store.by_key(key)
        if fault is not None and fault.kind is FaultKind.KEEP and known is not None:
            return JSONResponse(_shown(known))
        store.cancel(key, warehouse, clock.now())
        return Response(status_code=204)

    @app.post("/_faults", status_code=204, include_in_schema=False, **api)
    async def arm(fault: Fault) -> None:
        faults.arm(fault)

    @app.delete("/_faults", status_code=204, include_in_schema=False, **api)
    async def disarm() -> None:
        faults.clear()

    @app.get("/_stats", include_in_schema=False, **api)
    async def stats() -> dict[str, Any]:
        return {"calls": dict(calls), "bookings": store.counts(), "faults_fired": faults.fired}

    return app


def _check_span(start: datetime, end: datetime) -> None:
    if not timedelta(0) < end - start <= MAX_SPAN:
        raise HTTPException(422, f"'to' lies after 'from', at most {MAX_SPAN.days} days")


def _done(wanted: BookingRequest, fault: Fault | None) -> tuple[BookingRequest, str]:
    """What a booking becomes under a fault that bends it, and its state."""
    match fault.kind if fault is not None else None:
        case FaultKind.REJECT:
            return wanted, "rejected"
        case FaultKind.PEND:
            return wanted, "pending"
        case FaultKind.MOVE if fault is not None:
            by = timedelta(hours=fault.shift_h)
            return wanted.model_copy(update={"start": wanted.start + by, "end": wanted.end + by}), "booked"
        case FaultKind.SHORTEN:
            return wanted.model_copy(update={"end": wanted.start + (wanted.end - wanted.start) / 2}), "booked"
        case FaultKind.OTHER_EQUIPMENT:
            return wanted.model_copy(update={"equipment": f"{wanted.equipment}-B"}), "booked"
    return wanted, "booked"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "equipment": row["equipment"],
        "start": datetime.fromtimestamp(row["start_us"] / 1e6, UTC).isoformat(),
        "end": datetime.fromtimestamp(row["end_us"] / 1e6, UTC).isoformat(),
        "reason": row["reason"],
        "state": row["state"],
        "key": row["idempotency_key"],
    }
