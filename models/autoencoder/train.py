"""Train the autoencoder on simulated healthy courses (TensorFlow, in the training environment only).

The network squeezes a view of ``windows.WIDTH`` values through ``CODE`` numbers and rebuilds it. Inputs are clipped
as the device's int8 input clips them. TensorFlow is imported where it is used, so that everything else in this
package runs without it. One machine, one version and one seed give the same weights: operations are deterministic and
run on one thread.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.detection.detectors import _windows
from edge_agent.detection.detectors.autoencoder import INPUT_LIMIT
from fleet_core.errors import BadConfig
from models.autoencoder import data
from models.autoencoder.data import FloatArray

HIDDEN = 40
CODE = 8
CHANNELS = 260
"""Simulated channels for each length of learning period."""
TICKS = 400
EPOCHS = 20
BATCH = 256
LEARNING_RATE = 2e-3


@dataclass(frozen=True, slots=True)
class Trained:
    """A Keras model with the clipped views (n, WIDTH) its int8 form is calibrated on, and the least spreads."""

    model: Any
    calibration: FloatArray
    least_spread: FloatArray


def tensorflow() -> Any:
    """TensorFlow, quiet. Raises BadConfig with the mend when it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its sums depend on the processor's width
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        return importlib.import_module("tensorflow")
    except ModuleNotFoundError:
        raise BadConfig("training needs TensorFlow: install 'tensorflow-cpu' in an environment of its own") from None


def train(seed: int, epochs: int = EPOCHS) -> Trained:
    """Simulate, train, and choose the calibration set. Takes about half a minute on one core."""
    tf = tensorflow()
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng = np.random.default_rng(seed)
    least_spread = data.least_spread(rng)
    courses = [data.healthy(CHANNELS, learnt, TICKS, rng) for learnt in data.LEARN_TICKS]
    views = clip(np.concatenate([data.views(each, least_spread).reshape(-1, _windows.WIDTH) for each in courses]))
    model = _network(tf)
    rate = tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * (len(views) // BATCH + 1))
    model.compile(tf.keras.optimizers.Adam(rate), loss="mse")
    wanted = views.astype(np.float32)
    model.fit(wanted, wanted, batch_size=BATCH, epochs=epochs, verbose=0)
    broken = [
        data.views(data.faulty(courses[0], fault, courses[0].learnt, rng), least_spread, 16).reshape(-1, _windows.WIDTH)
        for fault in data.FAULTS
    ]
    return Trained(model, clip(np.concatenate((views[::8], *broken))), least_spread)


def clip(views: FloatArray) -> FloatArray:
    """Views as the network sees them."""
    return np.clip(views, -INPUT_LIMIT, INPUT_LIMIT)


def _network(tf: Any) -> Any:
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input((_windows.WIDTH,), name="view"),
            layers.Dense(HIDDEN, "relu"),
            layers.Dense(CODE),
            layers.Dense(HIDDEN, "relu"),
            layers.Dense(_windows.WIDTH, name="rebuilt"),
        ]
    )
