"""Two tables: which role may do what, and which role may see which class of data.

Every user of the web has a role (``app_user.role``). Tenancy is not decided here: the database shows a tenant-bound
user only the rows of that tenant, whatever the role.
"""

from __future__ import annotations

from enum import StrEnum

from fleet_server.sovereignty.data_class import DataClass


class Role(StrEnum):
    OPERATOR = "operator"  # watches the whole fleet, without sight of customers' affairs
    ENGINEER = "engineer"  # repairs, and decides what the automation handed over
    DIRECTOR = "director"  # the customer's operations director
    AUDITOR = "auditor"  # reads everything decided, changes nothing
    ADMINISTRATOR = "administrator"


class Permission(StrEnum):
    VIEW_FLEET = "view_fleet"
    VIEW_VITALS = "view_vitals"
    VIEW_CASES = "view_cases"
    VIEW_LEDGER = "view_ledger"
    VIEW_LIBRARY = "view_library"
    VIEW_AUDIT = "view_audit"
    DECIDE_ESCALATION = "decide_escalation"
    DECIDE_ADDRESSED = "decide_addressed"  # only an escalation addressed to oneself
    DO_WORK_ORDER = "do_work_order"
    CANCEL_CASE = "cancel_case"
    SET_MAINTENANCE = "set_maintenance"
    SET_OBSERVE_ONLY = "set_observe_only"


_P = Permission
_WATCH = frozenset({_P.VIEW_FLEET, _P.VIEW_VITALS, _P.VIEW_CASES})

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OPERATOR: _WATCH | {_P.VIEW_LEDGER, _P.VIEW_LIBRARY, _P.SET_MAINTENANCE},
    Role.ENGINEER: _WATCH
    | {_P.VIEW_LEDGER, _P.VIEW_LIBRARY, _P.SET_MAINTENANCE}
    | {_P.DECIDE_ESCALATION, _P.DO_WORK_ORDER, _P.CANCEL_CASE},
    Role.DIRECTOR: _WATCH | {_P.DECIDE_ADDRESSED, _P.SET_MAINTENANCE, _P.SET_OBSERVE_ONLY, _P.VIEW_AUDIT},
    Role.AUDITOR: _WATCH | {_P.VIEW_LEDGER, _P.VIEW_LIBRARY, _P.VIEW_AUDIT},
    Role.ADMINISTRATOR: frozenset(Permission),
}

_C = DataClass
CLEARANCE: dict[Role, frozenset[DataClass]] = {
    Role.OPERATOR: frozenset({_C.PUBLIC, _C.OPERATIONAL}),
    Role.ENGINEER: frozenset({_C.PUBLIC, _C.OPERATIONAL, _C.CUSTOMER, _C.PERSONAL}),
    Role.DIRECTOR: frozenset({_C.PUBLIC, _C.OPERATIONAL, _C.CUSTOMER, _C.PERSONAL}),
    Role.AUDITOR: frozenset({_C.PUBLIC, _C.OPERATIONAL, _C.CUSTOMER, _C.PERSONAL}),
    Role.ADMINISTRATOR: frozenset({_C.PUBLIC, _C.OPERATIONAL, _C.CUSTOMER, _C.PERSONAL}),
}
"""Nobody is cleared for patient-adjacent data: they stay where they arise; the operator sees a directive instead."""


def allowed(role: Role, permission: Permission) -> bool:
    """Whether a role holds a permission."""
    return permission in PERMISSIONS[role]


def cleared(role: Role, data_class: DataClass) -> bool:
    """Whether a role may see a class of data."""
    return data_class in CLEARANCE[role]
