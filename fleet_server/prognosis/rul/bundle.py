"""A fitted model as a directory: ``manifest.json``, ``arrays.npz`` and LightGBM text models.

A loaded model gives the same forecasts, bit for bit. The manifest holds the format, the versions of the libraries that
fitted the model, the settings, the column names of the table, the structure of the model and a SHA-256 of every other
file. Nothing is unpickled; names of types come from a fixed list. A bundle is written beside its place and then moved
there whole, so a bundle that was written only in part never has the final name. A file that does not match its digest
is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleet_core.errors import BadConfig, BadInput
from fleet_server.prognosis.rul.boosting import Boosted, lgb
from fleet_server.prognosis.rul.conformal import Conformal
from fleet_server.prognosis.rul.features import FeatureModel
from fleet_server.prognosis.rul.hazard import Hazard
from fleet_server.prognosis.rul.intervals import IntervalHazard
from fleet_server.prognosis.rul.model import RulModel
from fleet_server.prognosis.rul.regimes import Regimes
from fleet_server.prognosis.rul.similarity import Similarity
from fleet_server.prognosis.rul.training import Lifetimes, RulSettings

FORMAT = 3
MANIFEST = "manifest.json"
ARRAYS = "arrays.npz"
MAX_FILE_BYTES = 512 * 2**20

_PLAIN: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (RulModel, RulSettings, FeatureModel, Regimes, Similarity, Lifetimes)
}


@dataclass(frozen=True)
class Columns:
    """Names of the training table's columns, and the texts behind the codes of its text columns."""

    unit: str
    time: str
    failed: str | None = None
    categories: dict[str, tuple[str, ...]] | None = None


def save_bundle(folder: Path, model: RulModel, columns: Columns) -> str:
    """Write the model to ``folder``, replacing a bundle that is there; returns the digest of the bundle.

    Raises:
        BadConfig: the folder holds something other than a bundle.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())):
        raise BadConfig(f"{folder} holds something else than a bundle: name another folder")
    packer = _Packer({}, {})
    structure = packer.pack(model)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **packer.arrays)
    files = {ARRAYS: buffer.getvalue(), **{name: text.encode() for name, text in packer.texts.items()}}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    record = {
        "format": FORMAT,
        "versions": {"numpy": np.__version__, "lightgbm": lgb().__version__},
        "columns": asdict(columns),
        "files": digests,
        "model": structure,
    }
    record["digest"] = _digest(record)
    files[MANIFEST] = json.dumps(record, indent=1).encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for name, content in files.items():
            (made / name).write_bytes(content)
        made.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return str(record["digest"])


def load_bundle(folder: Path) -> tuple[RulModel, Columns]:
    """Read a bundle that :func:`save_bundle` wrote.

    Raises:
        BadInput: ``bundle`` when the bundle is missing, damaged or of another format.
    """
    try:
        record = json.loads(_content(folder, MANIFEST))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise BadInput("bundle", f"{folder}: not a bundle of format {FORMAT}; fit it anew")
        if record.get("digest") != _digest(record):
            raise BadInput("bundle", f"{folder}/{MANIFEST} does not match its digest; fit it anew")
        contents = {}
        for name, digest in record["files"].items():
            contents[name] = _content(folder, name)
            if hashlib.sha256(contents[name]).hexdigest() != digest:
                raise BadInput("bundle", f"{folder}/{name} does not match its digest; fit it anew")
        with np.load(io.BytesIO(contents.pop(ARRAYS)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        texts = {name: content.decode() for name, content in contents.items()}
        model = _Packer(arrays, texts).unpack(record["model"])
        known = record["columns"]
        named = {name: tuple(values) for name, values in (known["categories"] or {}).items()}
        columns = Columns(str(known["unit"]), str(known["time"]), known["failed"], named)
    except (KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput("bundle", f"{folder}: not a bundle: {error!r}; fit it anew") from None
    if not isinstance(model, RulModel):
        raise BadInput("bundle", f"{folder} holds no model; fit it anew")
    return model, columns


def _digest(record: dict[str, Any]) -> str:
    """Digest of the manifest without the digest itself and without the versions, which do not change forecasts."""
    told = {name: value for name, value in record.items() if name not in ("digest", "versions")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _content(folder: Path, name: str) -> bytes:
    path = folder / name
    if Path(name).name != name or not path.is_file():
        raise BadInput("bundle", f"{folder} has no {name}: not a bundle, or an incomplete one; fit it anew")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BadInput("bundle", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return path.read_bytes()


@dataclass(frozen=True)
class _Packer:
    """Turns the structure of a model into JSON and back; arrays and long texts are kept for files of their own."""

    arrays: dict[str, Any]
    texts: dict[str, str]

    def pack(self, value: Any) -> Any:
        """The value as a JSON value. Raises TypeError for a type that cannot be stored."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray):
            name = f"a{len(self.arrays)}"
            self.arrays[name] = value
            return {"array": name}
        if isinstance(value, Boosted):
            return {"trees": [self._text(text) for text in value.members]}
        if isinstance(value, Hazard):
            return {"hazard": self._text(value.to_text())}
        if isinstance(value, IntervalHazard):
            return {"watched": self._text(value.to_text())}
        if isinstance(value, Conformal):
            return {"conformal": value.to_json()}
        if isinstance(value, tuple):
            return {"tuple": [self.pack(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": {str(name): self.pack(item) for name, item in value.items()}}
        if is_dataclass(value) and type(value).__name__ in _PLAIN:
            told = {field.name: self.pack(getattr(value, field.name)) for field in fields(value)}
            return {"type": type(value).__name__, "fields": told}
        raise TypeError(f"cannot store a {type(value).__name__}")

    def unpack(self, stored: Any) -> Any:
        """The value that :meth:`pack` stored. Raises KeyError, TypeError or BadInput for any other value."""
        if not isinstance(stored, dict):
            return stored
        if "array" in stored:
            return self.arrays[stored["array"]]
        if "trees" in stored:
            return Boosted(tuple(self.texts[name] for name in stored["trees"]))
        if "hazard" in stored:
            return Hazard.from_text(self.texts[stored["hazard"]])
        if "watched" in stored:
            return IntervalHazard.from_text(self.texts[stored["watched"]])
        if "conformal" in stored:
            return Conformal.from_json(stored["conformal"])
        if "tuple" in stored:
            return tuple(self.unpack(item) for item in stored["tuple"])
        if "dict" in stored:
            return {name: self.unpack(item) for name, item in stored["dict"].items()}
        made = _PLAIN[stored["type"]]
        return made(**{name: self.unpack(item) for name, item in stored["fields"].items()})

    def _text(self, text: str) -> str:
        name = f"model_{len(self.texts):02d}.txt"
        self.texts[name] = text
        return name
