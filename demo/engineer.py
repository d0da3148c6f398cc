"""The engineer of the demo after its stories: comes when a work order begins, fits the new part, reports.

He serves whatever is arranged, also what a visitor decides, for as long as the demo is up. Like the stories he uses the
HTTP interface and the devices only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import httpx

from demo.console import Console
from demo.stack import Stack
from demo.stories import is_away

log = logging.getLogger(__name__)
LOOK_S = 1.0
WORK = timedelta(hours=1)
REPORT = "Old part worn; new one fitted and tested."


class Engineer:
    """Works in a thread of its own from :meth:`start` on. A context: leaving it ends the work.

    ``swaps`` holds, by asset, what fits a new part of that serial number into the device.
    """

    def __init__(self, stack: Stack, swaps: Mapping[str, Callable[[str], None]]) -> None:
        self._stack, self._swaps = stack, swaps
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="engineer")

    def __enter__(self) -> Engineer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        with self._stack.console("engineer") as console:
            while not self._over.wait(LOOK_S):
                try:
                    for order in console.work_orders():
                        self._serve(console, order)
                except httpx.HTTPError as error:
                    if not is_away(error):
                        log.error("the demo's engineer was refused: %s", error)

    def _serve(self, console: Console, order: dict[str, Any]) -> None:
        """Begin a dispatched order when its window does, and report on a begun one an hour later."""
        now, asset_id = self._stack.clock.now(), order["asset_id"]
        begins_at = order["starts_at"]
        if order["state"] == "dispatched" and now >= begins_at:
            console.start(order["work_order_id"])
        elif order["state"] == "started" and now >= begins_at + WORK and asset_id in self._swaps:
            case = console.case(order["case_id"])
            new_serial = f"{case['component_serial']}-B"
            self._swaps[asset_id](new_serial)
            console.complete(order["work_order_id"], case["summary"]["failure_mode"], new_serial, REPORT)
