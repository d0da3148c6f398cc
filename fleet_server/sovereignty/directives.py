"""Masks the fields of a record that a role may not see, by their data class.

Every route and page applies ``view`` to the records it read before it answers. ``view`` adds nothing and never raises
because of content. A masked value keeps the type of its field, so that clients need not know about roles: a text
becomes ``WITHHELD``, a list or table becomes empty, any other value null.
"""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fleet_server.sovereignty.data_class import DataClass, class_of
from fleet_server.sovereignty.roles import Role, cleared

WITHHELD = "withheld"
Model = TypeVar("Model", bound=BaseModel)


def view(model: Model, role: Role) -> Model:
    """A copy of ``model`` as ``role`` may see it; a field without a class counts as the highest class."""
    shown: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        data_class = class_of(field) or DataClass.PATIENT_ADJACENT
        shown[name] = _inner(value, role) if cleared(role, data_class) else masked(field)
    return type(model).model_construct(**shown)


def masked(field: FieldInfo) -> Any:
    """The value that stands for "withheld" in a field. Raises TypeError when the type of the field has none."""
    kinds = _kinds(field.annotation)
    if types.NoneType in kinds:
        return None
    if str in kinds:
        return WITHHELD
    for empty in (list, dict, tuple):
        if any((get_origin(kind) or kind) is empty for kind in kinds):
            return empty()
    raise TypeError(f"no value of {field.annotation} can stand for 'withheld': make the field optional")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _inner(value: Any, role: Role) -> Any:
    if isinstance(value, BaseModel):
        return view(value, role)
    if isinstance(value, list):
        return [_inner(item, role) for item in value]
    return value
