"""What one unit of evaluation is: a fit and the forecasts it is judged by. It carries its seed and shares nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.rul.evaluation.cuts import Cuts


@dataclass(frozen=True, slots=True)
class Task:
    """``corpus`` names the module that does it, ``name`` the set, ``kind`` what of it, ``part`` a fold or a unit."""

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
    """What came of a task: cuts, or figures of its own; ``refused`` says why neither."""

    task: Task
    cuts: Cuts | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    fit_s: float = 0.0
    refused: str = ""
