"""Read the demand of the components that a reader may see, as the API's answer; the command line prints the same."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from fleet_server.api.models.demand import Assumed, Demand, Need, PartDemand, SkillDemand, Unlisted
from fleet_server.insights.demand import Assumptions, Line, part_sentence, service, skill_sentence
from fleet_server.store.pool import Connection


async def demand(
    conn: Connection,
    now: datetime,
    days: tuple[int, ...],
    tenant_id: str | None,
    assumed: Assumptions | None = None,
) -> Demand:
    """The demand of the whole fleet; with ``tenant_id`` that of one tenant, without stock and proposals."""
    found = await service.read_demand(conn, now, days, tenant_id=tenant_id, assumed=assumed)
    return Demand(
        at=found.at,
        days=list(found.days),
        components=found.components,
        abstained=found.abstained,
        outlived=found.outlived,
        cut_off=found.cut_off,
        shelves_shown=found.shelves_shown,
        parts=[_part(line, found) for line in found.plan.parts],
        skills=[_skill(line, found) for line in found.plan.skills],
        without_part=[
            Unlisted(component_type=kind, model=model, components=count)
            for (kind, model), count in found.without_part.items()
        ],
        assumed=Assumed(**asdict(found.assumed)),
    )


def _part(line: Line, found: service.Demand) -> PartDemand:
    part_no, centre_id = line.key
    shelf, proposal = line.shelf, line.proposal
    return PartDemand(
        part_no=part_no,
        label=found.labels.get(part_no, part_no),
        centre_id=centre_id,
        centre_name=found.centres.get(centre_id, ""),
        components=line.components,
        basis=dict(line.basis),
        modes={mode: round(share, 3) for mode, share in line.modes.items()},
        needs=_needs(line),
        on_hand=shelf.on_hand if shelf else None,
        reserved=shelf.reserved if shelf else None,
        on_order=shelf.on_order if shelf else None,
        lead_days=proposal.lead_days if proposal else None,
        lead_assumed=proposal.lead_assumed if proposal else None,
        order=proposal.quantity if proposal else None,
        order_by=proposal.order_by if proposal else None,
        short_p=round(proposal.short_p, 4) if proposal else None,
        reason=part_sentence(line, found.at),
    )


def _skill(line: Line, found: service.Demand) -> SkillDemand:
    engineers = found.engineers.get(line.key, 0) if found.shelves_shown else None
    return SkillDemand(
        skill=line.key[0],
        region=line.key[1],
        components=line.components,
        basis=dict(line.basis),
        needs=_needs(line),
        booked=line.booked,
        engineers=engineers,
        reason=skill_sentence(line, engineers),
    )


def _needs(line: Line) -> list[Need]:
    return [
        Need(days=need.days, mean=round(need.mean, 4), low=need.low, high=need.high, forecast=round(need.forecast, 4))
        for need in line.needs
    ]
