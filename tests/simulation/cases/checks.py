"""What must hold in a play: at every step, of every message as it is handed over, and once everything was healed."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from fleet_server.notifiers.api import Message
from tests.simulation.cases.house import STOCK, House
from tests.simulation.cases.moment import Moment
from tests.simulation.cases.own import Mailbox
from tests.simulation.cases.warehouse import Warehouse

ENDED = ("closed", "cancelled", "false_alarm")
_NOBODY_WAITS = """
SELECT number, state, waits_for, next_at, plan ->> 'manual' AS by_hand,
       EXISTS (SELECT FROM timer WHERE timer.case_id = c.case_id AND done_at IS NULL) AS timed,
       EXISTS (SELECT FROM escalation WHERE escalation.case_id = c.case_id AND decided_at IS NULL) AS asked,
       EXISTS (SELECT FROM escalation WHERE escalation.case_id = c.case_id AND decided_at IS NULL
                  AND reason <> 'connector_down') AS asked_on,
       EXISTS (SELECT FROM act WHERE act.case_id = c.case_id AND kind = 'message' AND state IN ('intended', 'unknown'))
           AS telling
  FROM repair_case AS c ORDER BY number
"""


async def at_rest(house: House, moment: Moment) -> None:
    """Every open case has something in progress or a question; an ended one has neither; no message waits for ever."""
    for case in await house.rows(_NOBODY_WAITS):
        name, ended = f"case {case['number']} ({case['state']})", case["state"] in ENDED
        if ended and case["asked_on"]:  # a message about its end may still be asked about
            moment.blame(f"{name} has ended and a question about it is open")
        if not ended and not case["by_hand"] and case["next_at"] is None and not case["timed"] and not case["asked"]:
            moment.blame(f"{name} waits for nothing: {case['waits_for']!r}")
        if case["telling"] and case["next_at"] is None and not case["asked"]:
            moment.blame(f"{name} has a message that nobody sends")


async def told(house: House, moment: Moment, mail: Mailbox, warehouses: dict[str, Warehouse], message: Message) -> None:
    """A message is handed over now: is it true now?"""
    data, where = message.data, f"{message.purpose} to {message.to_name}"
    (case,) = await house.rows(
        "SELECT c.*, asset.equipment_ref, asset.site_id AS at_site FROM repair_case AS c JOIN asset USING (asset_id)"
        " WHERE case_id = %s", data["case_id"],
    ) or [None]  # fmt: skip
    if case is None:
        moment.blame(f"{where} is about a case that there is not")
        return
    name = f"case {case['number']}"
    if message.purpose in ("announcement", "amendment"):
        window = data["window"]
        start, end = datetime.fromisoformat(window["start"]), datetime.fromisoformat(window["end"])
        if case["state"] in ENDED:
            moment.blame(f"{where}: {name} had ended")
        if start <= moment.clock.at:
            moment.blame(f"{where}: the window of {name} had begun")
        if not warehouses[case["at_site"]].holds(case["equipment_ref"], start, end):
            moment.blame(f"{where}: the WMS does not hold the window of {name}")
        engineers = await house.rows(
            "SELECT 1 FROM engineer_booking WHERE state = 'held' AND idempotency_key LIKE %s"
            " AND lower(during) = %s", f"{case['case_id']}:%", start,
        )  # fmt: skip
        if not engineers:
            moment.blame(f"{where}: no engineer comes to {name} then")
    elif message.purpose == "cancellation" and case["state"] not in ENDED:
        moment.blame(f"{where}: {name} goes on")
    elif message.purpose == "closing":
        if case["state"] != "closed":
            moment.blame(f"{where}: {name} is {case['state']}")
        if not any(
            one.message.purpose == "announcement" and one.message.data["case_id"] == data["case_id"]
            for one in mail.mails
        ):
            moment.blame(f"{where}: the repair of {name} was never announced")
    elif message.purpose == "escalation":
        asked = await house.rows("SELECT 1 FROM escalation WHERE case_id = %s AND decided_at IS NULL", case["case_id"])
        if not asked:
            moment.blame(f"{where}: nothing is asked about {name}")


async def in_the_end(house: House, moment: Moment, mail: Mailbox, warehouses: dict[str, Warehouse]) -> None:
    """Everything was healed and is over: nothing is left behind anywhere."""
    for case in await house.rows("SELECT number, state, waits_for FROM repair_case ORDER BY number"):
        if case["state"] not in ENDED:
            moment.blame(f"case {case['number']} is still {case['state']}: {case['waits_for']!r}")
    acts = {row["idempotency_key"]: row for row in await house.rows("SELECT * FROM act")}
    for warehouse in warehouses.values():
        for entry in warehouse.entries.values():
            act = acts.get(entry.key)
            if entry.held and (act is None or act["state"] != "consumed"):
                known = "of no act" if act is None else f"of an act that is {act['state']}"
                moment.blame(f"the WMS {warehouse.name} holds a window {known}")
    for row in await house.rows("SELECT idempotency_key, state FROM part_reservation WHERE state <> 'released'"):
        act = acts.get(row["idempotency_key"])
        if row["state"] == "held" or act is None or act["state"] != "consumed":
            moment.blame(f"a part is {row['state']} by an act that is {act and act['state']}")
    for row in await house.rows("SELECT idempotency_key FROM engineer_booking WHERE state = 'held'"):
        act = acts.get(row["idempotency_key"])
        if act is None or act["state"] != "consumed":
            moment.blame(f"an engineer is held by an act that is {act and act['state']}")
    (left,) = await house.rows("SELECT sum(on_hand) AS n FROM stock")
    (used,) = await house.rows("SELECT count(*) AS n FROM part_reservation WHERE state <> 'released'")
    if left["n"] + used["n"] != sum(count for _, count in STOCK):
        moment.blame(f"{left['n']} parts on hand and {used['n']} used are not {sum(count for _, count in STOCK)}")
    _everybody_knows(moment, mail, {str(r["case_id"]): r for r in await house.rows("SELECT * FROM repair_case")})


def _everybody_knows(moment: Moment, mail: Mailbox, cases: dict[str, dict[str, Any]]) -> None:
    """One announcement of each case, and whoever holds an appointment got its end."""
    by_case: dict[str, dict[str, Message]] = defaultdict(dict)
    for one in mail.mails:
        known = by_case[one.message.data["case_id"]].setdefault(one.message.key, one.message)
        if known.data != one.message.data:
            moment.blame(f"two different messages have one identity: {one.message.purpose}")
    for case_id, by_key in by_case.items():
        name = f"case {cases[case_id]['number']}" if case_id in cases else "a case that there is not"
        sent = list(by_key.values())
        if sum(one.purpose == "announcement" for one in sent) > len(
            {one.to_address for one in sent if one.purpose == "announcement"}
        ):
            moment.blame(f"{name} was announced twice")
        holders = {one.to_address for one in sent if one.purpose in ("announcement", "amendment")}
        ended = {one.to_address for one in sent if one.purpose in ("closing", "cancellation")}
        if holders - ended:
            moment.blame(f"{name}: whoever holds the appointment was not told of its end")
