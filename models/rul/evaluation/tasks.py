"""A task of the evaluation: one fit and the forecasts that judge it. A task has its own seed and shares no state."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.rul.evaluation.cuts import Cuts


@dataclass(frozen=True, slots=True)
class Task:
    """A task: ``corpus`` names the module that does it, ``name`` the set, ``kind`` the protocol, ``part`` a fold or
    unit."""

    corpus: str
    name: str
    kind: str
    seed: int = 0
    part: int = 0
    with_age: bool = True
    data: Path | None = None

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} {self.kind}{'' if self.with_age else ', no age'}, seed {self.seed}, part {self.part}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a task: cuts, or figures of its own; ``refused`` says why there are neither."""

    task: Task
    cuts: Cuts | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    fit_s: float = 0.0
    refused: str = ""
