"""What the engineer is asked to do: general steps around those of the component's type. The work order carries it."""

from __future__ import annotations

from fleet_core.assets import COMPONENT_TYPES

_GENERAL = ("Take the machine out of service in agreement with the shift lead and lock it out.",)
_UNLISTED = ("Find and mend what the evidence shows.",)
_AFTERWARDS = (
    "Record the serial numbers of the removed and the installed part.",
    "Release the machine and watch the vitals for ten minutes before leaving.",
)


def playbook(component_type: str) -> list[str]:
    """The steps in order; an unlisted type gets the general ones and the advice to follow the evidence."""
    kind = COMPONENT_TYPES.get(component_type)
    return [*_GENERAL, *(kind.playbook if kind is not None else _UNLISTED), *_AFTERWARDS]
