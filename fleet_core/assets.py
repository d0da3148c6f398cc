"""Vocabulary of the physical world: asset classes, components, failure modes, units.

Failure modes and mechanisms carry ISO 14224:2016 codes (tables B.6 to B.15 and B.2); units are UCUM codes
(https://ucum.org). These are names and facts only; no thresholds live here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_core.errors import BadInput


class AssetClass(StrEnum):
    ROBOT = "robot"
    SERVER = "server"
    INFUSION_PUMP = "infusion_pump"


@dataclass(frozen=True, slots=True)
class FailureMode:
    """``iso_mode`` is the ISO 14224 failure mode (how it shows), ``iso_mechanism`` the mechanism behind it."""

    code: str
    label: str
    iso_mode: str
    iso_mechanism: str


@dataclass(frozen=True, slots=True)
class ComponentType:
    """A kind of maintainable item. ``indicator`` is the vital that best follows its degradation."""

    code: str
    label: str
    failure_modes: tuple[str, ...]
    skill: str
    indicator: str
    indicator_unit: str


UNKNOWN_FAILURE_MODE = "unknown"

FAILURE_MODES: dict[str, FailureMode] = {
    mode.code: mode
    for mode in (
        FailureMode("bearing_seizure", "Bearing seizure", "BRD", "2.4 wear"),
        FailureMode("bearing_spalling", "Bearing surface fatigue", "VIB", "2.6 fatigue"),
        FailureMode("motor_overheating", "Motor overheating", "OHE", "2.7 overheating"),
        FailureMode("host_overheating", "Host overheating", "OHE", "2.7 overheating"),
        FailureMode("disk_failure", "Disk failure", "BRD", "3.0 instrument failure"),
        FailureMode("fan_degradation", "Fan degradation", "LOO", "2.4 wear"),
        FailureMode("battery_fade", "Battery capacity fade", "LOO", "2.0 material failure"),
        FailureMode("pump_cavitation", "Pump cavitation", "VIB", "2.1 cavitation"),
        FailureMode("pump_blockage", "Pump blockage", "PLU", "5.1 blockage/plugged"),
        FailureMode("pump_leakage", "Pump leakage", "ELP", "1.1 leakage"),
        FailureMode(UNKNOWN_FAILURE_MODE, "Unknown", "UNK", "6.4 unknown"),
    )
}

COMPONENT_TYPES: dict[str, ComponentType] = {
    kind.code: kind
    for kind in (
        ComponentType(
            "bearing", "Drive bearing", ("bearing_seizure", "bearing_spalling"), "drive-mechanics", "vibration", "[g]"
        ),
        ComponentType("motor", "Drive motor", ("motor_overheating",), "drive-mechanics", "temperature", "Cel"),
        ComponentType("disk", "Disk", ("disk_failure",), "server-hardware", "reallocated_sectors", "1"),
        ComponentType("fan", "Fan", ("fan_degradation",), "server-hardware", "speed", "/min"),
        ComponentType("host", "Host", ("host_overheating",), "server-hardware", "temperature", "Cel"),
        ComponentType("battery", "Battery", ("battery_fade",), "medical-devices", "capacity", "A.h"),
        ComponentType(
            "pump",
            "Pump",
            ("pump_cavitation", "pump_blockage", "pump_leakage"),
            "drive-mechanics",
            "vibration",
            "[g]",
        ),
    )
}

UNITS: dict[str, str] = {
    "1": "",
    "%": "%",
    "[g]": "g",
    "Cel": "°C",
    "A": "A",
    "V": "V",
    "W": "W",
    "/min": "rpm",
    "Hz": "Hz",
    "bar": "bar",
    "L/min": "L/min",
    "By": "B",
    "By/s": "B/s",
    "A.h": "Ah",
    "h": "h",
    "s": "s",
    "ms": "ms",
}
"""UCUM code -> how it is written on a page (``[g]`` is standard acceleration of free fall)."""


def component_type(code: str) -> ComponentType:
    """Look up a component type. Raises BadInput."""
    try:
        return COMPONENT_TYPES[code]
    except KeyError:
        raise BadInput("component_type", f"{code!r} is not one of {', '.join(sorted(COMPONENT_TYPES))}") from None


def failure_mode(code: str) -> FailureMode:
    """Look up a failure mode; an unlisted code is the unknown mode."""
    return FAILURE_MODES.get(code, FAILURE_MODES[UNKNOWN_FAILURE_MODE])


def unit_label(ucum: str) -> str:
    """How a unit is written for people."""
    return UNITS.get(ucum, ucum)
