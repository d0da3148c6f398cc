"""One digest for each recording: what detection says of it, so that a change of code shows where verdicts change.

``python -m tests.recordings.digest --data FOLDER`` judges every recording below a folder as ``edge-agent detect``
does and compares it with the digests kept beside this file: rows, states and channels exactly, scores within
``SCORE_TOLERANCE``. ``--write`` keeps what was found instead. ``--keep DIR`` also stores every row's score, and
``--against DIR`` compares with what another version stored there, row by row. A recording that is refused has its
reason as digest.

Digests sample ``KEPT_SCORES`` scores of a recording; only ``--against`` looks at all. Numeric libraries differ in the
last bits between machines, hence the tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edge_agent.recorded.options import add_recording_arguments, settings_of
from edge_agent.recorded.recording import Summary, open_recording
from fleet_core.errors import Permanent

SCORE_TOLERANCE = 1e-9
KEPT_SCORES = 32
SUFFIXES = (".csv", ".npz", ".txt", ".gz", ".mat")
DIGESTS = Path(__file__).with_name("digests.json")


@dataclass(frozen=True, slots=True)
class Digest:
    """What detection says of one recording.

    ``verdicts``: SHA-256 over state and leading channel of every row; ``alarms``: first and last row of the first
    stretches of alarm; ``scores``: those of ``KEPT_SCORES`` rows spread evenly; ``refused``: why it was not judged.
    """

    rows: int = 0
    alarm_rows: int = 0
    alarms: tuple[tuple[int, int], ...] = ()
    verdicts: str = ""
    score_sum: float = 0.0
    scores: tuple[float, ...] = ()
    refused: str = ""


def judge(path: Path, name: str) -> tuple[Digest, np.ndarray]:
    """Digest and scores (rows,) of one recording; a refusal is a digest too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    add_recording_arguments(parser)
    args = parser.parse_args([str(path)])
    scores: list[np.ndarray] = []
    alarms: list[int] = []
    verdicts = hashlib.sha256()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            recording = open_recording(args, settings_of(args), Summary())
            for _texts, times_us, values in recording.blocks():
                (shown,) = recording.detection.on_block(recording.names, times_us, values).verdicts.values()
                scores.append(np.asarray(shown.score, dtype=np.float64))
                for state, top in zip(shown.states, shown.top_channels, strict=True):
                    verdicts.update(f"{state.value} {top}\n".encode())
                    alarms.append(state.value in ("degrading", "critical"))
    except Permanent as error:
        return Digest(refused=str(error).replace(str(path), name)), np.empty(0)
    joined = np.concatenate(scores) if scores else np.empty(0)
    places = np.unique(np.linspace(0, max(0, len(joined) - 1), KEPT_SCORES).astype(int)) if len(joined) else []
    told = tuple(float(joined[place]) for place in places)
    digest = Digest(len(joined), sum(alarms), _stretches(alarms), verdicts.hexdigest(), float(joined.sum()), told)
    return digest, joined


def differences(old: Digest, new: Digest) -> Iterator[str]:
    """In words, what two digests of one recording do not share."""
    for name in ("rows", "alarm_rows", "alarms", "verdicts", "refused"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    if len(old.scores) == len(new.scores):
        farthest = max((abs(a - b) for a, b in zip(old.scores, new.scores, strict=True)), default=0.0)
        if farthest > SCORE_TOLERANCE:
            yield f"scores differ by up to {farthest:.3g}"
    if abs(old.score_sum - new.score_sum) > SCORE_TOLERANCE * max(1, new.rows):
        yield f"score_sum: {old.score_sum} -> {new.score_sum}"


def load(path: Path = DIGESTS) -> dict[str, Digest]:
    """The digests kept, by the recording's path below its folder."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Digest(**{**each, "alarms": _pairs(each["alarms"]), "scores": tuple(each["scores"])})
        for name, each in raw.items()
    }


def recordings(folder: Path) -> dict[str, Path]:
    """Files that may be recordings, by their path below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return {path.relative_to(folder).as_posix(): path for path in files}


def main() -> int:
    """0 when nothing differs, 1 when something does, 2 without a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.recordings.digest", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("FORESTALL_DATA"), help="folder of recordings")
    parser.add_argument("--only", default="", help="only paths that contain this")
    parser.add_argument("--write", action="store_true", help="keep what is found as the digests")
    parser.add_argument("--keep", type=Path, help="store every row's score below this folder")
    parser.add_argument("--against", type=Path, help="compare every row with what --keep stored there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    if args.data is None:
        parser.error("name a folder of recordings with --data or FORESTALL_DATA")
    chosen = {name: path for name, path in recordings(args.data).items() if args.only in name}
    known = load() if DIGESTS.exists() else {}
    found: dict[str, Digest] = {}
    differing = 0
    with ProcessPoolExecutor(args.jobs) as pool:
        work = partial(_judge_and_keep, keep=args.keep, against=args.against)
        for name, (digest, words) in zip(chosen, pool.map(work, chosen.values(), chosen), strict=True):
            found[name] = digest
            if not args.write and args.against is None:
                words = [*words, *(differences(known[name], digest) if name in known else ["it has no digest"])]
            differing += bool(words)
            print(f"{name}: {digest.refused or f'{digest.rows} rows, {digest.alarm_rows} of alarm'}"[:150])
            for word in words:
                print(f"  DIFFERS {word}"[:400])
    if args.write:
        content = {name: asdict(digest) for name, digest in sorted({**known, **found}.items())}
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in content.items())
        DIGESTS.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(found)} recordings, {differing} differ")
    return 1 if differing else 0


def _judge_and_keep(path: Path, name: str, keep: Path | None, against: Path | None) -> tuple[Digest, list[str]]:
    digest, scores = judge(path, name)
    words: list[str] = []
    if against is not None:
        words.extend(_against(against / name, digest, scores))
    if keep is not None:
        target = keep / name
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target.with_name(target.name + ".npy"), scores)
        target.with_name(target.name + ".json").write_text(json.dumps(asdict(digest)), encoding="utf-8")
    return digest, words


def _against(stem: Path, digest: Digest, scores: np.ndarray) -> Iterator[str]:
    if not stem.with_name(stem.name + ".npy").exists():
        yield "nothing is stored of it"
        return
    stored = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
    old = np.load(stem.with_name(stem.name + ".npy"))
    if old.shape != scores.shape:
        yield f"rows: {len(old)} -> {len(scores)}"
        return
    farthest = float(np.abs(old - scores).max(initial=0.0))
    if not farthest <= SCORE_TOLERANCE:
        yield f"scores differ by up to {farthest:.3g} of {int((np.abs(old - scores) > SCORE_TOLERANCE).sum())} rows"
    for name in ("verdicts", "alarm_rows", "refused"):
        if stored[name] != getattr(digest, name):
            yield f"{name}: {stored[name]} -> {getattr(digest, name)}"


def _stretches(alarms: list[int], most: int = 16) -> tuple[tuple[int, int], ...]:
    """First and last row of the first stretches of alarm."""
    edges = np.flatnonzero(np.diff(np.array([0, *alarms, 0])))
    return tuple((int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)[:most])


def _pairs(raw: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in raw)


if __name__ == "__main__":
    sys.exit(main())
