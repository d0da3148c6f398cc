"""Roles, data classes, masking and throttling: pure rules."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from pydantic import BaseModel

import fleet_server.api.models as models_package
from fleet_core.clock import SimulatedClock
from fleet_server.api.models.base import Answer, Asked
from fleet_server.api.models.fleet import FleetAsset, FleetAssets, Tenant
from fleet_server.sovereignty.data_class import DataClass, class_of, unclassified
from fleet_server.sovereignty.directives import WITHHELD, masked, view
from fleet_server.sovereignty.roles import CLEARANCE, PERMISSIONS, Permission, Role, allowed, cleared
from fleet_server.sovereignty.throttle import FREE_TRIES, LONGEST_WAIT_S, MAX_KEYS, LoginThrottle

P = Permission


def answers_and_requests() -> list[type[BaseModel]]:
    for info in pkgutil.iter_modules(models_package.__path__):
        importlib.import_module(f"{models_package.__name__}.{info.name}")
    found: list[type[BaseModel]] = []
    waiting = [*Answer.__subclasses__(), *Asked.__subclasses__()]
    while waiting:
        model = waiting.pop()
        found.append(model)
        waiting += model.__subclasses__()
    return sorted(set(found), key=lambda model: model.__name__)


@pytest.mark.parametrize("model", answers_and_requests(), ids=lambda model: model.__name__)
def test_every_field_of_the_api_states_its_class_and_can_be_masked(model: type[BaseModel]) -> None:
    assert unclassified(model) == []
    for field in model.model_fields.values():
        if class_of(field) not in (DataClass.PUBLIC, DataClass.OPERATIONAL):
            masked(field)


def test_an_unclassified_field_is_found_and_never_shown() -> None:
    class Careless(Answer):
        secret: str = "x"

    assert unclassified(Careless) == ["Careless.secret"]
    assert view(Careless(), Role.ADMINISTRATOR).secret == WITHHELD


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (Role.OPERATOR, {P.VIEW_FLEET, P.SET_MAINTENANCE}, {P.DECIDE_ESCALATION, P.VIEW_AUDIT, P.DO_WORK_ORDER}),
        (Role.ENGINEER, {P.DECIDE_ESCALATION, P.DO_WORK_ORDER, P.CANCEL_CASE}, {P.SET_OBSERVE_ONLY, P.VIEW_AUDIT}),
        (Role.DIRECTOR, {P.SET_OBSERVE_ONLY, P.DECIDE_ADDRESSED}, {P.DECIDE_ESCALATION, P.VIEW_LEDGER}),
        (Role.AUDITOR, {P.VIEW_AUDIT, P.VIEW_LEDGER}, {P.SET_MAINTENANCE, P.CANCEL_CASE, P.DECIDE_ADDRESSED}),
        (Role.ADMINISTRATOR, set(Permission), set()),
    ],
)
def test_the_permissions_of_each_role(role: Role, may: set[Permission], may_not: set[Permission]) -> None:
    assert all(allowed(role, permission) for permission in may)
    assert not any(allowed(role, permission) for permission in may_not)


def test_every_role_is_in_both_tables_and_none_is_cleared_near_patients() -> None:
    assert set(PERMISSIONS) == set(CLEARANCE) == set(Role)
    assert not any(cleared(role, DataClass.PATIENT_ADJACENT) for role in Role)
    assert all(cleared(role, DataClass.PUBLIC) for role in Role)


def asset(**changes: Any) -> FleetAsset:
    fields: dict[str, Any] = {
        "asset_id": "a", "name": "A", "asset_class": "robot", "model": "m", "serial": "s", "site_id": "site",
        "site_name": "Their site", "time_zone": "UTC", "tenant_id": "t", "tenant_name": "Customer", "level": "good",
        "worst_slot": "", "score": 0.0, "stale": False, "agent_online": True, "last_seen_at": None,
        "maintenance_until": None, "case_id": None, "case_label": None, "case_state": None, "escalated": False,
    }  # fmt: skip
    return FleetAsset(**fields | changes)


def test_masking_reaches_into_lists_and_leaves_the_original_alone() -> None:
    page = FleetAssets(total=1, items=[asset()])
    seen = view(page, Role.OPERATOR)
    assert (seen.items[0].tenant_name, seen.items[0].site_name, seen.items[0].name) == (WITHHELD, WITHHELD, "A")
    assert page.items[0].tenant_name == "Customer"
    assert view(page, Role.ENGINEER).items[0].tenant_name == "Customer"


def test_a_masked_answer_still_fits_its_schema() -> None:
    tenant = Tenant(tenant_id="t", name="Customer", jurisdiction="DE", observe_only=False, assets=3)
    Tenant.model_validate(view(tenant, Role.OPERATOR).model_dump())


def test_throttling_waits_longer_after_each_failure_and_forgets() -> None:
    clock = SimulatedClock()
    throttle = LoginThrottle(clock)
    for _ in range(FREE_TRIES):
        assert throttle.wait_s("anna", "::1") == 0
        throttle.failed("anna", "::1")
    first_s = throttle.wait_s("anna", "::1")
    assert first_s > 0
    assert throttle.wait_s("berta", "::1") == 0
    clock.shift(first_s)
    assert throttle.wait_s("anna", "::1") == 0
    throttle.failed("anna", "::1")
    assert throttle.wait_s("anna", "::1") == 2 * first_s
    for _ in range(40):
        throttle.failed("anna", "::1")
    assert throttle.wait_s("anna", "::1") == LONGEST_WAIT_S
    clock.shift(3601)
    assert throttle.wait_s("anna", "::1") == 0


def test_a_good_login_frees_the_login_but_not_the_address() -> None:
    throttle = LoginThrottle(SimulatedClock())
    for number in range(60):
        throttle.failed(f"guess-{number}", "10.0.0.9")
    throttle.succeeded("guess-1", "10.0.0.9")
    assert throttle.wait_s("guess-1", "10.0.0.9") > 0
    assert throttle.wait_s("guess-1", "10.0.0.8") == 0


def test_a_stranger_elsewhere_does_not_lock_a_person_out() -> None:
    throttle = LoginThrottle(SimulatedClock())
    for _ in range(50):
        throttle.failed("anna", "203.0.113.7")
    assert throttle.wait_s("anna", "203.0.113.7") > 0
    assert throttle.wait_s("anna", "10.0.0.4") == 0


def test_many_addresses_that_guess_one_name_wait_and_a_known_device_does_not() -> None:
    throttle = LoginThrottle(SimulatedClock())
    for number in range(300):
        throttle.failed("anna", f"203.0.{number // 250}.{number % 250}")
    assert throttle.wait_s("anna", "198.51.100.1") > 0
    assert throttle.wait_s("anna", "198.51.100.1", device="d1") == 0
    for _ in range(FREE_TRIES):
        throttle.failed("anna", "198.51.100.1", device="d1")
    assert throttle.wait_s("anna", "198.51.100.1", device="d1") > 0


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    throttle = LoginThrottle(SimulatedClock())
    for number in range(FREE_TRIES):
        throttle.failed("anna", f"2001:db8:1:2::{number:x}")
    assert throttle.wait_s("anna", "2001:db8:1:2:ffff::1") > 0
    assert throttle.wait_s("anna", "2001:db8:1:3::1") == 0
    assert throttle.wait_s("anna", "::ffff:10.0.0.1") == 0


def test_throttling_remembers_a_bounded_number_of_keys() -> None:
    throttle = LoginThrottle(SimulatedClock())
    for number in range(MAX_KEYS):
        throttle.failed(f"guess-{number}", f"address-{number}")
    assert len(throttle._failures) == MAX_KEYS
