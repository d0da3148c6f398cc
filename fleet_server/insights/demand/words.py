"""The need of a part or a skill in one sentence, for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet_server.insights.demand.plan import Line, Need


def part_sentence(line: Line, now: datetime) -> str:
    """``3.2 needed in 30 days (1–6), 2 in stock, lead time 10 d: order 4 by 3 December``."""
    parts = [_need(line.needs[0])]
    shelf, proposal = line.shelf, line.proposal
    if shelf is None or proposal is None:
        return parts[0] if line.key[1] else f"{parts[0]}; no centre keeps it in stock"
    parts.append(f"{shelf.on_hand} in stock")
    if shelf.on_order:
        parts.append(f"{shelf.on_order} on order")
    parts.append(f"lead time {amount(proposal.lead_days)} d{' assumed' if proposal.lead_assumed else ''}")
    return f"{', '.join(parts)}: {_order(proposal.quantity, proposal.order_by, now)}"


def skill_sentence(line: Line, engineers: int | None) -> str:
    """``2.1 jobs expected in 30 days (0–4), 1 booked, 3 engineers``."""
    parts = [_need(line.needs[0], "job expected" if amount(line.needs[0].mean) == "1" else "jobs expected")]
    if line.booked:
        parts.append(f"{line.booked} booked already")
    if engineers is None:
        return ", ".join(parts)
    if engineers == 0:
        return f"{', '.join(parts)}: nobody here has the skill"
    return f"{', '.join(parts)}, {engineers} engineer{'s' if engineers != 1 else ''}"


def amount(value: float) -> str:
    """A number of pieces or days as text: one decimal below 100, and never ``0`` for a small positive number."""
    if 0 < value < 0.05:
        return "<0.1"
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"


def _need(need: Need, what: str = "needed") -> str:
    span = f"{need.low}" if need.low == need.high else f"{need.low}–{need.high}"
    return f"{amount(need.mean)} {what} in {need.days} days ({span})"


def _order(quantity: int, order_by: datetime | None, now: datetime) -> str:
    if not quantity or order_by is None:
        return "enough"
    day, today = order_by.astimezone(UTC).date(), now.astimezone(UTC).date()
    return f"order {quantity} today" if day <= today else f"order {quantity} by {day.day} {day:%B}"
