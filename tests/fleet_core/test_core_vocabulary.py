import pytest

from fleet_core.assets import COMPONENT_TYPES, FAILURE_MODES, component_type, failure_mode, unit_label
from fleet_core.errors import BadConfig, BadInput
from fleet_core.plugins import load_plugin, plugin_names


def test_every_component_names_failure_modes_and_units_that_exist():
    for kind in COMPONENT_TYPES.values():
        assert set(kind.failure_modes) <= set(FAILURE_MODES)
        assert unit_label(kind.indicator_unit) != kind.indicator_unit or kind.indicator_unit in ("1", "A.h")


def test_an_unlisted_failure_mode_is_unknown_and_an_unlisted_component_is_refused():
    assert failure_mode("gremlins").iso_mode == "UNK"
    with pytest.raises(BadInput, match="bearing"):
        component_type("gremlin")


def test_plugins_are_listed_without_import_and_named_when_missing():
    assert "api" not in plugin_names("edge_agent.acquisition")
    with pytest.raises(BadConfig, match=r"there are: .*replay"):
        load_plugin("edge_agent.acquisition", "telepathy")


@pytest.mark.parametrize("name", ["../api", "api", "", "_private", "Replay"])
def test_a_plugin_name_cannot_be_a_path_or_a_private_module(name):
    with pytest.raises(BadConfig):
        load_plugin("edge_agent.acquisition", name)
