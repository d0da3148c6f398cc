"""Exports the float32 reference, the int8 network and their manifest, and ships the int8 network to the device.

The int8 network is calibrated by the minimum and maximum of every tensor over the whole calibration set, as
TensorFlow's own converter does. A moving average would forget the extremes, which matter most here.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.detection.detectors import _litert, _windows, autoencoder
from fleet_core.errors import BadConfig
from models.autoencoder.data import FloatArray
from models.autoencoder.train import Trained, tensorflow

FLOAT_MODEL = "autoencoder_float32.tflite"
INT8_MODEL = autoencoder.MODEL
MANIFEST = "manifest.json"
MAX_FILE_BYTES = 100_000
ARTIFACT = Path(__file__).parent.parent / "artifacts" / "autoencoder"
DEVICE = Path(autoencoder.__file__).parent.parent / "artifacts"


def convert(trained: Trained) -> tuple[bytes, bytes]:
    """The float32 and the int8 network. Raises BadConfig when one is too large to be kept or sent."""
    tf = tensorflow()

    def calibration() -> Iterator[list[Any]]:
        for row in trained.calibration.astype(np.float32):
            yield [row[None]]

    with tempfile.TemporaryDirectory() as folder:
        trained.model.export(folder, verbose=False)
        exact = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = calibration
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        small = converter.convert()
    for name, content in ((FLOAT_MODEL, exact), (INT8_MODEL, small)):
        if len(content) > MAX_FILE_BYTES:
            raise BadConfig(f"{name} is {len(content)} bytes long; at most {MAX_FILE_BYTES} are allowed")
    return exact, small


def weigh(exact: _litert.Network, healthy: FloatArray) -> FloatArray:
    """Weights (WIDTH,) of the residuals: courses and shapes count alike, and a healthy view scores about 1."""
    residual = healthy - exact.run(healthy)
    power = np.quantile(np.abs(residual), 0.9, axis=0) ** 2 / 2.71  # a normal's; outliers do not widen it
    share = np.concatenate((np.full(_windows.WINDOW, 0.5 / _windows.WINDOW), np.full(len(_windows.SHAPES), 0.5 / 16)))
    return np.array([float(f"{weight:.6g}") for weight in share / np.maximum(power, 1e-3)])


def manifest(contents: dict[str, bytes], contract: dict[str, Any], seed: int, command: str) -> dict[str, Any]:
    """The manifest of the files; the caller adds the figures of the gate under ``parity`` and ``value``."""
    small = _litert.Network(contents[INT8_MODEL])
    return {
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "bytes": {name: len(content) for name, content in contents.items()},
        "contract": contract,
        "quantisation": {
            "input": [small.input_scale, small.input_zero],
            "output": [small.output_scale, small.output_zero],
            "calibration": "true minimum and maximum",
        },
        "seed": seed,
        "command": command,
        "versions": {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "tensorflow": str(tensorflow().__version__),
            "litert": _litert.runtime().version,
            "machine": platform.machine(),
        },
    }


def contract(weights: FloatArray, least_spread: FloatArray) -> dict[str, Any]:
    """The input contract the device holds the network to."""
    return {
        "version": autoencoder.CONTRACT,
        "window": _windows.WINDOW,
        "shapes": list(_windows.SHAPES),
        "input_limit": autoencoder.INPUT_LIMIT,
        "scaling": "deviations in robust sigmas; shapes in the channel's own healthy robust sigmas",
        "score": "sqrt(sum(weights * (raw input - output)^2))",
        "weights": weights.tolist(),
        "least_spread": least_spread.tolist(),
    }


def write(folder: Path, contents: dict[str, bytes], told: dict[str, Any]) -> None:
    """Write the networks and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / MANIFEST).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def ship(folder: Path, device: Path = DEVICE) -> None:
    """Copy the int8 network and the manifest to where the device's distribution carries them."""
    shutil.copyfile(folder / INT8_MODEL, device / autoencoder.MODEL)
    shutil.copyfile(folder / MANIFEST, device / autoencoder.MANIFEST)
