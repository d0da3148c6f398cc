"""The geometry of a rolling bearing, and the defect frequencies it implies as multiples of the shaft speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_core.errors import BadConfig

MAX_BALLS = 200
MAX_DIAMETER_MM = 10_000.0

BEARING_LINES = ("bpfo", "bpfi", "bsf", "ftf")
"""Features of a defect of the outer race, the inner race, a rolling element and the cage, in that order."""


@dataclass(frozen=True, slots=True)
class BearingGeometry:
    """A rolling bearing with a fixed outer and a turning inner ring. Diameters in mm, contact angle in degrees.

    Raises BadConfig for a geometry that no bearing has.
    """

    balls: int
    ball_diameter_mm: float
    pitch_diameter_mm: float
    contact_angle_deg: float = 0.0

    def __post_init__(self) -> None:
        if not 3 <= self.balls <= MAX_BALLS:
            raise BadConfig(f"bearing geometry: balls must be 3..{MAX_BALLS}")
        if not 0 < self.ball_diameter_mm < self.pitch_diameter_mm <= MAX_DIAMETER_MM:
            raise BadConfig("bearing geometry: 0 < ball_diameter_mm < pitch_diameter_mm <= 10000 must hold")
        if not 0 <= self.contact_angle_deg < 90:
            raise BadConfig("bearing geometry: contact_angle_deg must be 0..90")

    def orders(self) -> dict[str, float]:
        """The defect frequencies as multiples of the shaft frequency (dimensionless), by names of ``BEARING_LINES``.

        With n balls of diameter d on the pitch circle D and r = d / D cos(contact angle): ``ftf`` = (1 - r) / 2,
        ``bpfo`` = n (1 - r) / 2, ``bpfi`` = n (1 + r) / 2, ``bsf`` = D / (2 d) (1 - r^2). A spalled ball strikes both
        races in a turn, so its strongest line stands at twice ``bsf``.

        Limit: the balls are taken to roll without slip; with slip the real frequencies are up to 2 % off.
        Source: T. A. Harris, Rolling Bearing Analysis, ch. 25; also ISO 13373-3:2015, annex on rolling element
        bearings.
        """
        diameters = self.ball_diameter_mm / self.pitch_diameter_mm
        ratio = diameters * math.cos(math.radians(self.contact_angle_deg))
        return {
            "bpfo": self.balls / 2 * (1 - ratio),
            "bpfi": self.balls / 2 * (1 + ratio),
            "bsf": (1 - ratio**2) / (2 * diameters),
            "ftf": (1 - ratio) / 2,
        }
