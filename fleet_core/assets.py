"""Vocabulary of the physical world: asset classes, component types, failure modes, units.

All knowledge of a component type stands here and nowhere else: detection, prognosis and repair read it. Failure modes
and mechanisms carry ISO 14224:2016 codes (tables B.6 to B.15 and B.2); units are UCUM codes (https://ucum.org).
No thresholds stand here. The confidences of rules are expert judgement, ordered by how specific the evidence is; they
are not frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_core.errors import BadInput
from fleet_core.failure_rules import Confirmation, Direction, Family, ModeRule, falls, rises


class AssetClass(StrEnum):
    ROBOT = "robot"
    SERVER = "server"
    INFUSION_PUMP = "infusion_pump"
    VENTILATOR = "ventilator"


@dataclass(frozen=True, slots=True)
class FailureMode:
    """A failure mode. ``iso_mode`` is the ISO 14224 code of how the failure shows, ``iso_mechanism`` that of the
    mechanism behind it. ``verb`` completes the sentence "the unit ...", as in "seized".
    """

    code: str
    label: str
    iso_mode: str
    iso_mechanism: str
    verb: str = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentType:
    """A kind of maintainable item (ISO 14224), and all that detection, prognosis and repair know of it.

    ``indicator`` is part of the name of the vital that follows the degradation best, ``indicator_unit`` that vital's
    UCUM unit, ``degrades`` the direction it moves in as the item wears. With ``may_stand_still`` a standstill may be
    intended, so it is neither judged nor learnt; without it a standstill is a fault. ``rules`` say which evidence
    speaks for which of ``failure_modes``. ``skill`` is the skill that an engineer needs, ``playbook`` the steps of the
    repair.

    Raises BadInput when a rule names a mode the type does not have, or when the playbook is empty.
    """

    code: str
    label: str
    failure_modes: tuple[str, ...]
    rules: tuple[ModeRule, ...]
    indicator: str
    indicator_unit: str
    degrades: Direction
    may_stand_still: bool
    skill: str
    playbook: tuple[str, ...]

    def __post_init__(self) -> None:
        if foreign := {rule.mode for rule in self.rules} - set(self.failure_modes):
            raise BadInput("component_type", f"{self.code}: a rule names {', '.join(sorted(foreign))}, not its mode")
        if not self.playbook:
            raise BadInput("component_type", f"{self.code}: no step in its playbook")


UNKNOWN_FAILURE_MODE = "unknown"
BEARING_SEIZURE, BEARING_SPALLING, BATTERY_FADE = "bearing_seizure", "bearing_spalling", "battery_fade"
"""The modes that code may name: those of recorded and simulated lives."""
DEFECT_LINE_MODE = BEARING_SPALLING
"""The mode that a bearing defect's line in the envelope speaks for, on any type: motors, fans and pumps have
bearings."""

FAILURE_MODES: dict[str, FailureMode] = {
    mode.code: mode
    for mode in (
        FailureMode(BEARING_SEIZURE, "Bearing seizure", "BRD", "2.4 wear", "seized"),
        FailureMode(BEARING_SPALLING, "Bearing surface fatigue", "VIB", "2.6 fatigue"),
        FailureMode("motor_overheating", "Motor overheating", "OHE", "2.7 overheating", "overheated"),
        FailureMode("host_overheating", "Host overheating", "OHE", "2.7 overheating", "overheated"),
        FailureMode("disk_failure", "Disk failure", "BRD", "3.0 instrument failure"),
        FailureMode("fan_degradation", "Fan degradation", "LOO", "2.4 wear"),
        FailureMode(BATTERY_FADE, "Battery capacity fade", "LOO", "2.0 material failure"),
        FailureMode("pump_cavitation", "Pump cavitation", "VIB", "2.1 cavitation"),
        FailureMode("pump_blockage", "Pump blockage", "PLU", "5.1 blockage/plugged", "blocked"),
        FailureMode("pump_leakage", "Pump leakage", "ELP", "1.1 leakage", "leaked"),
        FailureMode("filter_clogging", "Filter clogging", "PLU", "5.1 blockage/plugged", "clogged"),
        FailureMode("hose_leakage", "Hose leakage", "ELU", "1.1 leakage", "leaked"),
        FailureMode("turbine_wear", "Turbine wear", "LOO", "2.4 wear"),
        FailureMode(UNKNOWN_FAILURE_MODE, "Unknown", "UNK", "6.4 unknown"),
    )
}

BEARING, MOTOR, HOST, BATTERY = "bearing", "motor", "host", "battery"
"""The types that code may name, in sources and readers of recorded lives, which must say of what type their component
is."""

_WEAR = (Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE, Family.TEMPERATURE, Family.VIBRATION_SPECTRUM)
_FAN = (Family.SPEED, Family.VIBRATION_LEVEL, Family.TEMPERATURE, Family.CURRENT)
_CELL = (Family.CAPACITY, Family.CURRENT, Family.TEMPERATURE)
_PUMP = (Family.FLOW, Family.PRESSURE, Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE, Family.CURRENT)
_FILTER = (Family.FLOW, Family.PRESSURE)
_HOSE = (Family.PRESSURE, Family.FLOW)
_TURBINE = (
    Family.SPEED,
    Family.FLOW,
    Family.CURRENT,
    Family.VIBRATION_LEVEL,
    Family.VIBRATION_SHAPE,
    Family.TEMPERATURE,
)
_ROUGH = rises(Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE, Family.VIBRATION_SPECTRUM)
_EFFORT = rises(Family.CURRENT, Family.PRESSURE)


def _overheating(mode: str) -> ModeRule:
    """The rule for a component that is hot and does not shake. A high current confirms it: it explains the heat."""
    return ModeRule(
        mode=mode,
        confidence=0.7,
        when=(rises(Family.TEMPERATURE),),
        unless=rises(Family.VIBRATION_LEVEL),
        confirmed_by=(Confirmation(rises(Family.CURRENT), 0.1), Confirmation(falls(Family.SPEED), 0.1)),
        reasons=(Family.TEMPERATURE, Family.CURRENT, Family.SPEED),
    )


COMPONENT_TYPES: dict[str, ComponentType] = {
    kind.code: kind
    for kind in (
        ComponentType(
            code=BEARING,
            label="Drive bearing",
            failure_modes=(BEARING_SEIZURE, BEARING_SPALLING),
            rules=(
                ModeRule(
                    mode=BEARING_SEIZURE,
                    confidence=0.5,
                    when=(rises(Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE),),
                    confirmed_by=(
                        Confirmation(rises(Family.VIBRATION_SHAPE), 0.15),
                        Confirmation(rises(Family.TEMPERATURE), 0.2),
                    ),
                    reasons=_WEAR,
                    untyped=True,
                ),
                ModeRule(
                    mode=BEARING_SEIZURE,
                    confidence=0.4,
                    when=(rises(Family.VIBRATION_SPECTRUM) + falls(Family.VIBRATION_SPECTRUM),),
                    reasons=_WEAR,
                    untyped=True,
                ),
            ),
            indicator="vibration",
            indicator_unit="[g]",
            degrades=Direction.RISES,
            may_stand_still=True,
            skill="drive-mechanics",
            playbook=(
                "Measure vibration at the drive end and compare it with the evidence.",
                "Replace the bearing; check the shaft seat and the lubrication.",
            ),
        ),
        ComponentType(
            code=MOTOR,
            label="Drive motor",
            failure_modes=("motor_overheating",),
            rules=(_overheating("motor_overheating"),),
            indicator="temperature",
            indicator_unit="Cel",
            degrades=Direction.RISES,
            may_stand_still=True,
            skill="drive-mechanics",
            playbook=(
                "Check ventilation and load current.",
                "Replace the motor; verify its direction and temperature.",
            ),
        ),
        ComponentType(
            code="disk",
            label="Disk",
            failure_modes=("disk_failure",),
            rules=(
                ModeRule(
                    mode="disk_failure",
                    confidence=0.6,
                    when=(rises(Family.OTHER) + falls(Family.OTHER),),
                    reasons=(Family.TEMPERATURE,),
                    because="its own error counters moved",
                ),
            ),
            indicator="reallocated_sectors",
            indicator_unit="1",
            degrades=Direction.RISES,
            may_stand_still=False,
            skill="server-hardware",
            playbook=(
                "Confirm by serial number and bay light that it is this disk.",
                "Replace it and start the rebuild.",
            ),
        ),
        ComponentType(
            code="fan",
            label="Fan",
            failure_modes=("fan_degradation",),
            rules=(
                ModeRule(
                    mode="fan_degradation",
                    confidence=0.7,
                    when=(falls(Family.SPEED),),
                    corroborated=0.15,
                    reasons=_FAN,
                ),
                ModeRule(
                    mode="fan_degradation",
                    confidence=0.6,
                    when=(rises(Family.VIBRATION_LEVEL),),
                    reasons=_FAN,
                ),
                ModeRule(
                    mode="fan_degradation",
                    confidence=0.4,
                    when=(rises(Family.TEMPERATURE, Family.CURRENT, Family.SPEED),),
                    reasons=_FAN,
                ),
            ),
            indicator="speed",
            indicator_unit="/min",
            degrades=Direction.FALLS,
            may_stand_still=False,
            skill="server-hardware",
            playbook=("Clean the intake.", "Replace the fan; verify speed and rack temperature."),
        ),
        ComponentType(
            code=HOST,
            label="Host",
            failure_modes=("host_overheating",),
            rules=(_overheating("host_overheating"),),
            indicator="temperature",
            indicator_unit="Cel",
            degrades=Direction.RISES,
            may_stand_still=False,
            skill="server-hardware",
            playbook=("Find and mend what the evidence shows.",),
        ),
        ComponentType(
            code=BATTERY,
            label="Battery",
            failure_modes=(BATTERY_FADE,),
            rules=(
                ModeRule(
                    mode=BATTERY_FADE,
                    confidence=0.75,
                    when=(falls(Family.CAPACITY),),
                    corroborated=0.1,
                    reasons=_CELL,
                    untyped=True,
                ),
                ModeRule(
                    mode=BATTERY_FADE,
                    confidence=0.5,
                    when=(falls(Family.CURRENT) + rises(Family.TEMPERATURE),),
                    reasons=_CELL,
                ),
            ),
            indicator="capacity",
            indicator_unit="A.h",
            degrades=Direction.FALLS,
            may_stand_still=True,
            skill="medical-devices",
            playbook=("Take the device off the patient first.", "Replace the battery; run the capacity test."),
        ),
        # Too little flow, told apart by its company: with effort a blockage, with shaking cavitation, alone a leak.
        ComponentType(
            code="pump",
            label="Pump",
            failure_modes=("pump_cavitation", "pump_blockage", "pump_leakage"),
            rules=(
                ModeRule(
                    mode="pump_blockage",
                    confidence=0.75,
                    when=(falls(Family.FLOW), _EFFORT),
                    reasons=_PUMP,
                    untyped=True,
                ),
                ModeRule(
                    mode="pump_cavitation",
                    confidence=0.75,
                    when=(falls(Family.FLOW, Family.PRESSURE), _ROUGH),
                    reasons=_PUMP,
                    untyped=True,
                ),
                ModeRule(
                    mode="pump_leakage",
                    confidence=0.45,
                    when=(falls(Family.PRESSURE),),
                    unless=_EFFORT,
                    confirmed_by=(Confirmation(rises(Family.FLOW) + falls(Family.FLOW), 0.15),),
                    reasons=_PUMP,
                    untyped=True,
                ),
                ModeRule(
                    mode="pump_blockage",
                    confidence=0.4,
                    when=(falls(Family.FLOW),),
                    reasons=_PUMP,
                    untyped=True,
                ),
                ModeRule(
                    mode="pump_cavitation",
                    confidence=0.45,
                    when=(_ROUGH,),
                    reasons=_PUMP,
                ),
            ),
            indicator="vibration",
            indicator_unit="[g]",
            degrades=Direction.RISES,
            may_stand_still=True,
            skill="drive-mechanics",
            playbook=("Check inlet pressure and strainer.", "Replace the pump; verify flow and vibration."),
        ),
        # The indicator is the flow over the pressure it takes: it falls as the element clogs, at any demand.
        ComponentType(
            code="filter",
            label="Filter",
            failure_modes=("filter_clogging",),
            rules=(
                ModeRule(
                    mode="filter_clogging",
                    confidence=0.8,
                    when=(falls(Family.FLOW), rises(Family.PRESSURE)),
                    reasons=_FILTER,
                ),
                ModeRule(
                    mode="filter_clogging",
                    confidence=0.6,
                    when=(falls(Family.FLOW) + rises(Family.PRESSURE),),
                    reasons=_FILTER,
                ),
            ),
            indicator="permeability",
            indicator_unit="L/min/bar",
            degrades=Direction.FALLS,
            may_stand_still=True,
            skill="hydraulics",
            playbook=(
                "Relieve the pressure on both sides before opening the housing.",
                "Replace the element and its seals; verify flow and differential pressure.",
                "Look at what the old element holds: metal speaks of a worn pump.",
            ),
        ),
        # The indicator is the share of the pressure that a closed section holds after a test: it falls as it leaks.
        ComponentType(
            code="hose",
            label="Hydraulic hose",
            failure_modes=("hose_leakage",),
            rules=(
                ModeRule(
                    mode="hose_leakage",
                    confidence=0.7,
                    when=(falls(Family.PRESSURE),),
                    confirmed_by=(Confirmation(rises(Family.FLOW), 0.15),),
                    reasons=_HOSE,
                ),
                ModeRule(
                    mode="hose_leakage",
                    confidence=0.5,
                    when=(rises(Family.FLOW),),
                    reasons=_HOSE,
                ),
            ),
            indicator="pressure_held",
            indicator_unit="%",
            degrades=Direction.FALLS,
            may_stand_still=True,
            skill="hydraulics",
            playbook=(
                "Relieve the pressure, stored pressure too; never search a leak by hand.",
                "Replace the hose; check its bend radius and for chafing, bleed the line and repeat the holding test.",
            ),
        ),
        # A worn turbine turns faster for the same flow. A patient breathes by it, so it is never meant to stand.
        ComponentType(
            code="turbine",
            label="Ventilator turbine",
            failure_modes=("turbine_wear",),
            rules=(
                ModeRule(
                    mode="turbine_wear",
                    confidence=0.7,
                    when=(rises(Family.SPEED),),
                    confirmed_by=(
                        Confirmation(rises(Family.CURRENT, Family.TEMPERATURE), 0.1),
                        Confirmation(rises(Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE), 0.1),
                    ),
                    reasons=_TURBINE,
                ),
                ModeRule(
                    mode="turbine_wear",
                    confidence=0.5,
                    when=(rises(Family.CURRENT, Family.VIBRATION_LEVEL, Family.VIBRATION_SHAPE) + falls(Family.FLOW),),
                    reasons=_TURBINE,
                ),
            ),
            indicator="speed",
            indicator_unit="/min",
            degrades=Direction.RISES,
            may_stand_still=False,
            skill="medical-devices",
            playbook=(
                "Put the patient on another ventilator first.",
                "Replace the turbine and its inlet filter; run the flow calibration and the self-test.",
            ),
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
    "L/min/bar": "L/min per bar",
    "By": "B",
    "By/s": "B/s",
    "A.h": "Ah",
    "h": "h",
    "s": "s",
    "ms": "ms",
}
"""UCUM code -> the unit as pages show it (``[g]`` is the standard acceleration of free fall)."""


def component_type(code: str) -> ComponentType:
    """Look up a component type. Raises BadInput."""
    try:
        return COMPONENT_TYPES[code]
    except KeyError:
        raise BadInput("component_type", f"{code!r} is not one of {', '.join(sorted(COMPONENT_TYPES))}") from None


def rules_for(code: str) -> tuple[ModeRule, ...]:
    """The rules by which evidence on a component of this type is read. An unlisted type has none.

    For "" these are the untyped rules, which hold without knowing the type.
    """
    if code:
        kind = COMPONENT_TYPES.get(code)
        return kind.rules if kind is not None else ()
    return tuple(rule for kind in COMPONENT_TYPES.values() for rule in kind.rules if rule.untyped)


def indicator_falls(code: str) -> bool:
    """Does the indicator of this type fall as a component degrades? For an unlisted type: no."""
    kind = COMPONENT_TYPES.get(code)
    return kind is not None and kind.degrades is Direction.FALLS


def may_stand_still(code: str) -> bool:
    """May a standstill of a component of this type be intended? For an unlisted type: yes, since nothing is known."""
    kind = COMPONENT_TYPES.get(code)
    return kind is None or kind.may_stand_still


def failure_mode(code: str) -> FailureMode:
    """Look up a failure mode. An unlisted code gives the unknown mode."""
    return FAILURE_MODES.get(code, FAILURE_MODES[UNKNOWN_FAILURE_MODE])


def unit_label(ucum: str) -> str:
    """A unit as pages show it."""
    return UNITS.get(ucum, ucum)
