"""LiteRT on the device: find the runtime, load a network, run batches of rows through it.

The runtime is optional. ``ai-edge-litert`` is looked for first, then its predecessor ``tflite-runtime``; neither is
imported before the first question. Without one the agent works with its other detectors: ``runtime()`` says why, and
``Network`` raises BadConfig with the mend.

No delegate is used: networks of this size gain nothing from one, and the plain kernels are integer arithmetic that
gives the same answer for a row whatever the size of the batch it comes in.
"""

from __future__ import annotations

import functools
import importlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.arrays import FloatArray
from fleet_core.errors import BadConfig

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
MAX_MODEL_BYTES = 1_000_000
MAX_BATCH = 512
"""Rows per call: bounds the memory of a long block."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What was found. ``interpreter`` is the class, or None with the ``reason`` in words."""

    interpreter: Any
    resolver: Any
    name: str
    version: str
    reason: str


@functools.cache
def runtime() -> Runtime:
    """The runtime of this process, looked up once. Never raises."""
    failures = []
    for package in RUNTIMES:
        try:
            module = importlib.import_module(f"{package}.interpreter")
            version = str(getattr(importlib.import_module(package), "__version__", "unknown"))
            plain = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            return Runtime(module.Interpreter, plain, package, version, "")
        except (ImportError, AttributeError, OSError) as error:  # absent, too old, or built for another machine
            failures.append(f"{package}: {error}")
    reason = f"no LiteRT runtime; install 'ai-edge-litert' ({'; '.join(failures)})"
    return Runtime(None, None, "", "", reason)


class Network:
    """One network with a single input (n, width) and a single output (n, width), int8 or float32.

    One network may be shared by threads.
    """

    def __init__(self, content: bytes) -> None:
        """Raises BadConfig without a runtime and for a file that is not such a network."""
        found = runtime()
        if found.interpreter is None:
            raise BadConfig(found.reason)
        if len(content) > MAX_MODEL_BYTES:
            raise BadConfig(f"the network is {len(content)} bytes long; at most {MAX_MODEL_BYTES} are taken")
        try:
            self._interpreter = found.interpreter(
                model_content=content, num_threads=1, experimental_op_resolver_type=found.resolver
            )
            self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BadConfig(f"{found.name} refuses the network: {error}") from None
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 2:
            raise BadConfig("the network needs one input and one output of rows")
        self.width = int(inputs[0]["shape"][1])
        self.input_scale, self.input_zero = _quantisation(inputs[0])
        self.output_scale, self.output_zero = _quantisation(outputs[0])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._batch = int(inputs[0]["shape"][0])
        self._lock = threading.Lock()

    def run(self, rows: FloatArray) -> FloatArray:
        """Outputs (n, width) for rows (n, width); values an int8 input cannot express are clipped."""
        parts = [self._run(rows[start : start + MAX_BATCH]) for start in range(0, len(rows), MAX_BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width))

    def _run(self, rows: FloatArray) -> FloatArray:
        if not self.input_scale:
            return self._invoke(rows.astype(np.float32)).astype(np.float64)
        levels = np.rint(rows / self.input_scale) + self.input_zero
        clipped = np.minimum(np.maximum(levels, -128.0), 127.0).astype(np.int8)
        answer: FloatArray = (self._invoke(clipped) - float(self.output_zero)) * self.output_scale
        return answer

    def _invoke(self, rows: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            if len(rows) != self._batch:
                self._interpreter.resize_tensor_input(self._input, rows.shape)
                self._interpreter.allocate_tensors()
                self._batch = len(rows)
            self._interpreter.set_tensor(self._input, rows)
            self._interpreter.invoke()
            answer: NDArray[Any] = self._interpreter.get_tensor(self._output)
        return answer


def _quantisation(details: dict[str, Any]) -> tuple[float, int]:
    """Scale and zero point; scale 0 for float32."""
    if details["dtype"] == np.float32:
        return 0.0, 0
    if details["dtype"] != np.int8:
        raise BadConfig(f"the network's tensors must be int8 or float32, not {details['dtype']}")
    scale, zero = details["quantization"]
    return float(scale), int(zero)
