"""Every notifier: accepted once reached, the same identity on a repeat, retryable when nobody answers.

A notifier is found by its file. How it is reached, its own test says: ``rig(directory, keeper)`` in
``tests/fleet_server/test_notifier_NAME.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.connectors import check_shape, own_test
from support.messages import message
from support.notifiers import Rig

from demo.processes import Keeper
from fleet_core.errors import BadConfig, Permanent, Retryable
from fleet_core.plugins import parse_config, plugin_names
from fleet_server.notifiers.api import Recipient

pytestmark = pytest.mark.integration
PACKAGE = "fleet_server.notifiers"
RIG = "rig(directory: Path, keeper: Keeper) -> Rig"
KEY = "c-1:message:announcement:0"


@pytest.fixture(params=plugin_names(PACKAGE))
def plugin(request: pytest.FixtureRequest) -> ModuleType:
    return check_shape(PACKAGE, request.param)


@pytest.fixture
def rig(plugin: ModuleType, tmp_path: Path) -> Iterator[Rig]:
    make = own_test("notifier", plugin, RIG)
    with Keeper(tmp_path / "log") as keeper:
        yield make(tmp_path, keeper)


def test_an_unknown_setting_is_refused(plugin: ModuleType) -> None:
    with pytest.raises(BadConfig, match="unknown setting 'no_such_setting'"):
        parse_config(plugin.Config, {"no_such_setting": 1}, "notifiers")


async def test_a_message_arrives_and_a_repeat_has_the_same_identity(rig: Rig) -> None:
    assert await rig.notifier.send(message(key=KEY, to_address=rig.address))
    assert await rig.notifier.send(message(key=KEY, to_address=rig.address))
    closing = message(key="c-1:message:closing:0", to_address=rig.address, reply_to_key=KEY)
    await rig.notifier.send(closing)
    first, again, other = rig.arrived()
    assert first == again != other
    assert await rig.notifier.lookup(KEY) in (None, True)
    await rig.notifier.close()


async def test_nobody_there_is_retryable(rig: Rig) -> None:
    with pytest.raises(Retryable):
        await rig.silent.send(message(to_address=rig.nowhere))
    assert rig.arrived() == []


async def test_an_impossible_address_is_permanent(rig: Rig) -> None:
    with pytest.raises(Permanent):
        await rig.notifier.send(message(to_address="not an address\r\nX: y"))
    assert rig.arrived() == []


def test_whom_it_reaches(rig: Rig) -> None:
    assert rig.notifier.address(Recipient("p", "Nobody")) == ""
    assert rig.notifier.address(Recipient("p", "Anna", "anna@x.example", "https://x.example/hook"))


def test_a_plugin_that_cannot_be_tried_fails_with_the_mend() -> None:
    mend = r"notifier 'pigeon' cannot be tried: write `def rig\(.*\) -> Rig` in tests/fleet_server/test_notifier_pigeon"
    with pytest.raises(pytest.fail.Exception, match=mend):
        own_test("notifier", ModuleType("fleet_server.notifiers.pigeon"), RIG)
