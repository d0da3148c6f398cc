"""Which detectors are measured. Knows the settings only: a process that maps numpy would share the agent's pages."""

from __future__ import annotations

from edge_agent.detection.settings import DetectionSettings

LITERT_DETECTOR = "autoencoder"
WITHOUT_RUNTIME, EVERYTHING = "statistics", "everything"


def detectors(which: str) -> dict[str, dict[str, object]]:
    """The default ones; ``WITHOUT_RUNTIME``: but for the one that needs LiteRT, as where that is not installed."""
    default = DetectionSettings().detectors
    return {name: table for name, table in default.items() if which == EVERYTHING or name != LITERT_DETECTOR}
