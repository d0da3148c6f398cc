"""What a vital measures, by its unit and the words of its name; both the device and the server ask.

The unit decides where it belongs to one quantity only, whichever spelling or multiple of it a device uses; of a vital
in any other unit the name decides. Pure; any name and unit is legal.
"""

from __future__ import annotations

import re

from fleet_core.assets import ComponentType
from fleet_core.failure_rules import Family

_UNITS: dict[Family, tuple[str, ...]] = {
    Family.VIBRATION_LEVEL: ("[g]", "m/s2", "mm/s"),
    Family.TEMPERATURE: ("Cel", "K", "[degF]"),
    Family.CURRENT: ("A", "mA", "V", "mV", "W", "kW"),
    Family.SPEED: (
        "/min", "1/min", "r/min", "rev/min", "rpm", "RPM", "{rpm}", "{rev}/min", "{r}/min", "r/s", "{rev}/s", "{rps}",
        "rad/s", "deg/s",
    ),
    Family.PRESSURE: ("bar", "mbar", "Pa", "hPa", "kPa", "MPa", "[psi]", "cm[H2O]", "mm[Hg]"),
    Family.FLOW: ("L/min", "L/min/bar", "L/h", "L/s", "mL/min", "mL/h", "m3/h", "m3/s"),
    Family.CAPACITY: ("A.h", "Ah", "mA.h", "mAh", "W.h", "Wh", "kW.h"),
}  # fmt: skip
FAMILY_OF_UNIT: dict[str, Family] = {unit: family for family, units in _UNITS.items() for unit in units}
"""Unit -> the quantity of a vital in that unit: UCUM codes, and other spellings that devices use."""

_FREQUENCIES = ("Hz", "/s", "1/s", "kHz")
"""Units of a rate that need not be a rotation: of mains, of a line in a spectrum, of requests."""
_SHARES = ("%", "1", "")
"""Units of any quantity when it is given as a share."""
_NAMES = (
    (re.compile(r"vibrat|accel|velocity_rms"), Family.VIBRATION_LEVEL),
    (re.compile(r"temp|thermo|heat"), Family.TEMPERATURE),
    # the counters that disks tell by SMART are no currents
    (re.compile(r"current(?!_pending)|voltage|power(?!_on|_cycle)|torque"), Family.CURRENT),
    (re.compile(r"rpm|speed|rotation"), Family.SPEED),
    (re.compile(r"pressure"), Family.PRESSURE),
    (re.compile(r"flow(?!ed)"), Family.FLOW),
    (re.compile(r"capacity|charge"), Family.CAPACITY),
    (re.compile(r"bearing"), Family.VIBRATION_LEVEL),  # what a bearing's vital says when nothing else is said
)


def quantity(name: str, unit: str) -> Family | None:
    """What a vital of this name and unit measures; None when neither says."""
    by_name = next((found for words, found in _NAMES if words.search(name.lower())), None)
    return FAMILY_OF_UNIT.get(unit, by_name)


def follows(kind: ComponentType, name: str, unit: str) -> bool | None:
    """Does a vital measure the quantity of this type's indicator? None when its name and unit leave it open.

    A vital in the indicator's unit does, and so does a frequency that nothing else is said of where the indicator is a
    speed. A share of something that is not named may be one of the indicator.
    """
    indicator = quantity(kind.indicator, kind.indicator_unit)
    measured = quantity(name, unit)
    if unit == kind.indicator_unit or (measured is None and kind.indicator in name.lower()):
        return True
    if measured is None and unit in _FREQUENCIES:
        return indicator is Family.SPEED
    if measured is None and unit in _SHARES:
        return None
    return measured is not None and measured is indicator
