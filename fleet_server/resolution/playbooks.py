"""What the engineer is asked to do, by type of component. Data only; the connector's work order carries it."""

from __future__ import annotations

from collections.abc import Mapping

_GENERAL = ("Take the machine out of service in agreement with the shift lead and lock it out.",)
_AFTERWARDS = (
    "Record the serial numbers of the removed and the installed part.",
    "Release the machine and watch the vitals for ten minutes before leaving.",
)

PLAYBOOKS: Mapping[str, tuple[str, ...]] = {
    "bearing": (
        "Measure vibration at the drive end and compare it with the evidence.",
        "Replace the bearing; check the shaft seat and the lubrication.",
    ),
    "motor": ("Check ventilation and load current.", "Replace the motor; verify its direction and temperature."),
    "disk": ("Confirm by serial number and bay light that it is this disk.", "Replace it and start the rebuild."),
    "fan": ("Clean the intake.", "Replace the fan; verify speed and rack temperature."),
    "battery": ("Take the device off the patient first.", "Replace the battery; run the capacity test."),
    "pump": ("Check inlet pressure and strainer.", "Replace the pump; verify flow and vibration."),
}


def playbook(component_type: str) -> list[str]:
    """The steps in order; the general ones alone for an unlisted type."""
    return [*_GENERAL, *PLAYBOOKS.get(component_type, ("Find and mend what the evidence shows.",)), *_AFTERWARDS]
