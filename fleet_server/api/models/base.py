"""Shared ground of answers and requests: their base classes and the factories of classified fields."""

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


class Asked(BaseModel):
    """Base of the body of every request: fields it does not name are left out, as a newer program may send them.

    Apart from :class:`Answer`, because what comes in is hostile: its fields state their bounds, and nothing of it is
    built from rows or masked for a reader.
    """

    model_config = ConfigDict(extra="ignore")


class Done(Answer):
    """A command was carried out."""

    done: bool = public(True)
    detail: str = public("")
