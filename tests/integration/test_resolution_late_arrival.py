"""A booking whose call was never answered arrives after the same booking was refused: the WMS refuses it too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from support.resolution import Servers, Stage, stage

from fleet_core.errors import OutcomeUnknown
from fleet_server.connectors.common import Refused
from fleet_server.connectors.wms.api import Booking

pytestmark = pytest.mark.integration


@pytest.fixture
async def ready(dsn: str, servers: Servers) -> AsyncIterator[Stage]:
    async with stage(dsn, servers, policy={"retry_first_s": 0.01}) as made:
        yield made


class _Slow:
    """The reference WMS behind a line that swallows the first booking, and refuses the second."""

    def __init__(self, wms: Any) -> None:
        self._wms = wms
        self.swallowed: tuple[tuple[Any, ...], str] | None = None
        self._refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wms, name)

    async def book(self, equipment: str, start: datetime, end: datetime, reason: str, *, key: str) -> Booking:
        if self.swallowed is None:
            self.swallowed = ((equipment, start, end, reason), key)
            raise OutcomeUnknown("no answer")
        if not self._refused:
            self._refused = True
            raise Refused("not_wanted", "not then")
        booked: Booking = await self._wms.book(equipment, start, end, reason, key=key)
        return booked

    async def arrives(self) -> Booking:
        assert self.swallowed is not None
        arguments, key = self.swallowed
        booked: Booking = await self._wms.book(*arguments, key=key)
        return booked


async def test_a_booking_that_arrives_after_its_refusal_is_refused_there(
    ready: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[_Slow] = []
    usual = ready.rt.wms_of

    def wms_of(*arguments: Any) -> Any:
        made[:] = made or [_Slow(usual(*arguments))]
        return made[0]

    monkeypatch.setattr(ready.rt, "wms_of", wms_of)
    case_id = await ready.finding()
    for _ in range(4):
        await ready.later(0.2)
    assert (await ready.case(case_id))["state"] == "committed"
    with pytest.raises(Refused):
        await made[0].arrives()
