"""Shared ground of the answers: the field factories, pages of a list, small helpers."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from fleet_server.sovereignty.data_class import DataClass, classified

public = partial(classified, DataClass.PUBLIC)
operational = partial(classified, DataClass.OPERATIONAL)
customer = partial(classified, DataClass.CUSTOMER)
personal = partial(classified, DataClass.PERSONAL)

Record = dict[str, Any]
"""A row of the database, or a JSON object another part of the server wrote."""


class Answer(BaseModel):
    """Base of every answer: built from rows, columns it does not name are left out."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class Done(Answer):
    """A command was carried out."""

    done: bool = public(True)
    detail: str = public("")
