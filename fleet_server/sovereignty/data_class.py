"""Data classes: every field of a public model states how much protection its content needs.

A field states its class through :func:`classified`. Whether a role sees the field follows from the class alone
(``roles.cleared``, ``directives.view``). A new field cannot leak because somebody forgot it: a test fails on a field
without a class. A field above ``OPERATIONAL`` must have a value that stands for "withheld" (see ``directives``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

_KEY = "x-data-class"


class DataClass(StrEnum):
    """Classes of data, in the order of the protection that they need."""

    PUBLIC = "public"  # units, labels, names of states
    OPERATIONAL = "operational"  # what running and repairing the fleet needs
    CUSTOMER = "customer"  # a customer's business: its name, loads, plans, contracts
    PERSONAL = "personal"  # a named human and how to reach them
    PATIENT_ADJACENT = "patient_adjacent"  # anything near a patient: never leaves its jurisdiction


def classified(data_class: DataClass, default: Any = ..., **options: Any) -> Any:
    """A pydantic ``Field`` that states its data class; it shows in the OpenAPI document as ``x-data-class``."""
    return Field(default, json_schema_extra={_KEY: data_class.value}, **options)


def class_of(field: FieldInfo) -> DataClass | None:
    """The class a field states, or None when it states none."""
    extra = field.json_schema_extra
    value = extra.get(_KEY) if isinstance(extra, dict) else None
    return DataClass(value) if isinstance(value, str) else None


def unclassified(model: type[BaseModel]) -> list[str]:
    """Names of the model's fields that state no class."""
    return [f"{model.__name__}.{name}" for name, field in model.model_fields.items() if class_of(field) is None]
