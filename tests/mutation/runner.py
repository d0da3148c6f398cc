"""Runs a core's tests against its mutants, each in a forked child. Nothing on disk is changed.

A child puts the mutant in the place of its module when that is imported, and runs pytest up to the first failure. The
parent has imported the libraries which the tests need, so that a mutant costs its tests and little else. A child that
computes several times as long as the clean run is ended, and its mutant counts as killed. Computing time is measured,
so that a busy machine kills none; only a child that waits for ever is ended by the clock on the wall.

Reproducible: Hypothesis draws the same examples in every run and keeps none.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from tests.mutation.cores import ROOT
from tests.mutation.mutants import Mutant

CPU_FACTOR, CPU_MORE_S = 5.0, 5.0
WALL_FACTOR, WALL_MORE_S = 20.0, 120.0
MEMORY_BYTES = 2 << 30
"""Of data in one child: a mutant that collects without end is ended before the machine suffers."""
POLL_S = 0.01
CRASHED = 99
_ENDINGS = {0: "survived", 1: "failed", 2: "broken"}
"""What pytest exits with: no failure, a failed test, tests that could not even be collected."""

_NOT_WARMED = frozenset(("conftest", "support", "tests"))
"""Found by pytest, which rewrites their assertions."""


class CannotMeasure(Exception):
    """The tests fail without any mutant, or do not load the module, or it is loaded already: nothing can be said."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant: ``how`` is failed, broken (at import), crashed, hung or survived."""

    mutant: Mutant
    how: str

    @property
    def killed(self) -> bool:
        return self.how != "survived"


@dataclass(frozen=True, slots=True)
class Clean:
    """What the tests take without a mutant: seconds of computing, and on the wall."""

    cpu_s: float
    wall_s: float


def prepare(modules: Sequence[str], tests: Sequence[str]) -> Clean:
    """Run the tests without a mutant, twice, the second time warm. Raises CannotMeasure."""
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),  # how busy the machine is, kills no mutant
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    clean = Clean(0.0, 0.0)
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="forestall-mutation-") as folder:
            begun_s = time.monotonic()
            _, raw, used = os.wait4(_start(None, tests, Path(folder), 0), 0)
            clean = Clean(used.ru_utime + used.ru_stime, time.monotonic() - begun_s)
            if _how(raw) != "survived":
                output = (Path(folder) / "output").read_text(errors="replace")
                raise CannotMeasure(f"the tests fail without any mutant:\n{output[-4000:]}")
            loaded = json.loads((Path(folder) / "modules.json").read_text())
        if missing := sorted(set(modules) - set(loaded)):
            raise CannotMeasure(f"the tests do not load {', '.join(missing)}")
        sys.meta_path.insert(0, refusal := _Refusal(modules))  # so that what builds on the core stays unimported
        for name in loaded:
            if name.split(".")[0] not in _NOT_WARMED:
                with contextlib.suppress(Exception):  # what does not import by itself, the children import
                    importlib.import_module(name)
        sys.meta_path.remove(refusal)
    if loaded_early := sorted(set(modules) & set(sys.modules)):
        raise CannotMeasure(f"no mutant would stand in for what is imported already: {', '.join(loaded_early)}")
    gc.freeze()  # children need not look through all of this again
    return clean


def outcomes(mutants: Sequence[Mutant], tests: Sequence[str], clean: Clean, jobs: int) -> Iterator[Outcome]:
    """The outcome of each mutant, as they come; ``jobs`` children at a time."""
    cpu_limit_s = math.ceil(CPU_FACTOR * clean.cpu_s + CPU_MORE_S)
    wall_limit_s = WALL_FACTOR * clean.wall_s + WALL_MORE_S
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Mutant, float, tempfile.TemporaryDirectory[str]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant, folder = waiting.pop(), tempfile.TemporaryDirectory(prefix="forestall-mutation-")
                running[_start(mutant, tests, Path(folder.name), cpu_limit_s)] = (mutant, time.monotonic(), folder)
            time.sleep(POLL_S)
            for pid, (mutant, begun_s, folder) in list(running.items()):
                ended, raw = os.waitpid(pid, os.WNOHANG)
                hung = not ended and time.monotonic() - begun_s > wall_limit_s
                if hung:
                    _end(pid)
                if ended or hung:
                    del running[pid]
                    folder.cleanup()
                    yield Outcome(mutant, "hung" if hung else _how(raw))
    finally:
        for pid, (_, _, folder) in running.items():
            _end(pid)
            folder.cleanup()


def _start(mutant: Mutant | None, tests: Sequence[str], folder: Path, cpu_limit_s: int) -> int:
    """Fork a child that runs the tests with the mutant, or without one; its process id. ``cpu_limit_s`` 0: no limit."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = CRASHED
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        if cpu_limit_s:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit_s, cpu_limit_s + 10))
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(ROOT)
        if mutant is not None:
            sys.meta_path.insert(0, _Instead(mutant.module, mutant.compiled()))
        plugins = [f"-pno:{name}" for name in ("cacheprovider", "randomly", "faulthandler", "unraisableexception")]
        options = ["-x", "-q", "-n0", "--hypothesis-profile=mutation", f"--basetemp={folder / 'tmp'}"]
        ignored = "-Wignore::pytest.PytestAssertRewriteWarning"  # plugins are imported already: that is the point
        status = int(pytest.main([*plugins, *options, ignored, *tests]))
        if mutant is None:
            (folder / "modules.json").write_text(json.dumps(list(sys.modules)))
    finally:
        sys.stdout.flush()
        os._exit(status)


class _Refusal(importlib.abc.MetaPathFinder):
    """Lets some modules not be imported."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = frozenset(modules)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname in self._modules:
            raise ImportError(f"{fullname} comes with its mutant")


class _Instead(importlib.abc.MetaPathFinder):
    """Finds one module as ever, and gives it other code."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._module, self._code = module, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._code)
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


def _how(raw: int) -> str:
    """How a child ended, in words."""
    if os.WIFSIGNALED(raw):
        return "hung" if os.WTERMSIG(raw) == signal.SIGXCPU else "crashed"
    return _ENDINGS.get(os.WEXITSTATUS(raw), "crashed")


def _end(pid: int) -> None:
    """End a child and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
