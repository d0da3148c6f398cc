import pytest

from fleet_core.assets import (
    COMPONENT_TYPES,
    FAILURE_MODES,
    UNITS,
    ComponentType,
    component_type,
    failure_mode,
    rules_for,
)
from fleet_core.errors import BadConfig, BadInput
from fleet_core.failure_rules import Direction, Family, ModeRule, falls
from fleet_core.plugins import load_plugin, plugin_names


def test_every_component_names_failure_modes_and_units_that_exist():
    for kind in COMPONENT_TYPES.values():
        assert set(kind.failure_modes) <= set(FAILURE_MODES)
        assert kind.indicator_unit in UNITS


def test_an_unlisted_failure_mode_is_unknown_and_an_unlisted_component_is_refused():
    assert failure_mode("gremlins").iso_mode == "UNK"
    with pytest.raises(BadInput, match="bearing"):
        component_type("gremlin")


BELT_RULE = ModeRule(mode="belt_slip", confidence=0.6, when=(falls(Family.SPEED),), reasons=(Family.SPEED,))


def belt(rules: tuple[ModeRule, ...] = (BELT_RULE,), playbook: tuple[str, ...] = ("Tighten it.",)) -> ComponentType:
    return ComponentType(
        code="belt",
        label="Belt",
        failure_modes=("belt_slip",),
        rules=rules,
        indicator="speed",
        indicator_unit="/min",
        degrades=Direction.FALLS,
        may_stand_still=True,
        skill="drive-mechanics",
        playbook=playbook,
    )


def test_a_type_names_its_own_modes_and_something_to_do():
    assert belt().rules == (BELT_RULE,)
    with pytest.raises(BadInput, match="belt_slip"):
        ComponentType(**{name: getattr(belt(), name) for name in belt().__slots__} | {"failure_modes": ("belt_tear",)})
    with pytest.raises(BadInput, match="playbook"):
        belt(playbook=())


def test_rules_are_those_of_the_type_or_those_that_need_none():
    assert rules_for("fan") == COMPONENT_TYPES["fan"].rules
    assert rules_for("gremlin") == ()
    assert {rule.mode for rule in rules_for("")} == {
        "bearing_seizure", "battery_fade", "pump_blockage", "pump_cavitation", "pump_leakage",
    }  # fmt: skip
    assert all(rule.untyped for rule in rules_for(""))


def test_what_is_known_of_each_type_is_written_down_by_hand():
    facts = {code: (kind.degrades.value, kind.may_stand_still, kind.skill) for code, kind in COMPONENT_TYPES.items()}
    assert facts == {
        "bearing": ("rises", True, "drive-mechanics"),
        "motor": ("rises", True, "drive-mechanics"),
        "disk": ("rises", False, "server-hardware"),
        "fan": ("falls", False, "server-hardware"),
        "host": ("rises", False, "server-hardware"),
        "battery": ("falls", True, "medical-devices"),
        "pump": ("rises", True, "drive-mechanics"),
        "filter": ("falls", True, "hydraulics"),
        "hose": ("falls", True, "hydraulics"),
        "turbine": ("rises", False, "medical-devices"),
    }


def test_plugins_are_listed_without_import_and_named_when_missing():
    assert "api" not in plugin_names("edge_agent.acquisition")
    with pytest.raises(BadConfig, match=r"there are: .*replay"):
        load_plugin("edge_agent.acquisition", "telepathy")


@pytest.mark.parametrize("name", ["../api", "api", "", "_private", "Replay"])
def test_a_plugin_name_cannot_be_a_path_or_a_private_module(name):
    with pytest.raises(BadConfig):
        load_plugin("edge_agent.acquisition", name)
