"""The model card of the autoencoder, written from its manifest, so that no figure in it can be out of date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.autoencoder.export import FLOAT_MODEL, INT8_MODEL
from models.autoencoder.parity import LEAST_CORRELATION
from models.autoencoder.train import CODE, HIDDEN

CARD = Path(__file__).parent.parent / "cards" / "autoencoder.md"
CLEAR = 0.02
"""AUC by which a statistic must lead to be called better."""

_TEXT = """\
# Autoencoder of the device

| | |
|---|---|
| task | is one channel's recent course unlike healthy life? A second vote beside the statistical detectors |
| input | {window} newest deviations of one channel in robust sigmas, and {shapes} shapes of that course in the \
channel's own healthy sigmas |
| output | the input rebuilt; score = root of the weighted mean square residual against the raw float input |
| network | dense, {width}-{hidden}-{code}-{hidden}-{width}, int8 weights and activations; {int8_bytes} bytes \
(float32 reference {float_bytes}) |
| trained on | simulated healthy courses of many kinds (`models/autoencoder/data.py`); no recording, no customer data |
| made by | `{command}` |
| int8 SHA-256 | `{int8_digest}` |
| float32 SHA-256 | `{float_digest}` |
| versions | {versions} |

The command gives the same digests on the same machine type with the same versions; other versions of TensorFlow or
numpy give another network of the same worth. Training needs `tensorflow-cpu` in an environment of its own; running
and checking (`fleet-models autoencoder check`) needs LiteRT alone.

## Parity

Correlation of int8 with float32 scores on {windows} held-back windows, healthy and faulty, both files in LiteRT:
{correlation:.5f} (healthy ones alone {correlation_healthy:.5f}); publication is refused below {least}. Calibration is
by the true minimum and maximum. {saturated_share:.2%} of the inputs lay beyond what the int8 input expresses: they are
clipped for the network only, counted, and judged unclipped.

## What it adds

Mean area under the ROC curve over {channels} simulated channels, each one's faulty windows against its own healthy
ones (0.5 says nothing). *level*: median of the last three deviations; *mean* and *power*: mean and RMS of the window;
*shape*: the same shapes without the network.

{value}

{verdict}

## Limits

* Courses and faults are simulated; the figures compare statistics, they do not promise a detection rate.
* A course is judged by its last {window} ticks: what moves slower than that is the business of the other detectors.
* A change that leaves level, spread and movement as they were is not seen.
* The vote counts only through the asset's own calibrated limit, like any other
  (`edge_agent/detection/healthy/calibrate.py`).
"""


def render(told: dict[str, Any]) -> str:
    """The card's markdown."""
    value = told["value"]
    names = list(next(iter(value.values())))
    lines = [f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {fault} | {' | '.join(f'{row[name]:.3f}' for name in names)} |" for fault, row in value.items()]
    contract = told["contract"]
    return _TEXT.format(
        window=contract["window"],
        shapes=len(contract["shapes"]),
        width=len(contract["weights"]),
        hidden=HIDDEN,
        code=CODE,
        int8_bytes=told["bytes"][INT8_MODEL],
        float_bytes=told["bytes"][FLOAT_MODEL],
        int8_digest=told["sha256"][INT8_MODEL],
        float_digest=told["sha256"][FLOAT_MODEL],
        command=told["command"],
        versions=", ".join(f"{name} {text}" for name, text in told["versions"].items()),
        least=LEAST_CORRELATION,
        channels=told["value_channels"],
        value="\n".join(lines),
        verdict=verdict(value),
        **told["parity"],
    )


def verdict(value: dict[str, dict[str, float]]) -> str:
    """In words: where the autoencoder leads the plain statistics and the bare shapes, and where it does not."""
    against = {
        "the best of level, mean and power": lambda row: max(row["level"], row["mean"], row["power"]),
        "the shapes without the network": lambda row: row["shape"],
    }
    sentences = []
    for name, rival in against.items():
        lead = {fault: row["autoencoder"] - rival(row) for fault, row in value.items()}
        better = ", ".join(fault for fault, each in lead.items() if each > CLEAR) or "none"
        worse = ", ".join(fault for fault, each in lead.items() if each < -CLEAR) or "none"
        sentences.append(f"Beside {name} it is better for: {better}; worse for: {worse}.")
    return "\n".join(sentences)
