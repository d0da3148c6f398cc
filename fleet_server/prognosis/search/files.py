"""A signature index on disk: a folder of plain numpy arrays, and a manifest with the digest of every array's file.

    manifest.json   format, sorted windows, and the SHA-256 of every array's file
    ids.npy units.npy kinds.npy vectors.npy table.npy

The blocks are not stored: they are cheap to compute and follow from the arrays. The arrays can be mapped instead of
read: the memory is then shared with other processes and with the page cache.

Failure behaviour: saving removes the manifest first and writes it last, so that an index that was written only in part,
or altered since, is refused with BadInput. Nothing in the files is ever executed (no pickles).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from fleet_core.errors import BadInput
from fleet_server.prognosis.search.blocks import Array, Windows
from fleet_server.prognosis.search.index import SignatureIndex

FORMAT = "forestall-signature-index/1"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 65_536
_ARRAYS = ("ids", "units", "kinds", "vectors", "table")


def save(index: SignatureIndex, folder: Path) -> str:
    """Write the index into a folder and return its digest.

    The folder is created when it does not exist; an index in it is replaced. Raises OSError.
    """
    rows, table = index.contents()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    arrays: tuple[Array, ...] = (rows.ids, rows.units, rows.kinds, rows.vectors, table)
    digests = {}
    for name, array in zip(_ARRAYS, arrays, strict=True):
        # Written beside its place and then moved there: a process that has the old file mapped keeps the old content.
        part = folder / f"{name}.part"
        with part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        digests[name] = _digest(part)
        part.replace(folder / f"{name}.npy")
    manifest = {"format": FORMAT, "sorted": index.sorted_count(), "sha256": digests}
    text = json.dumps(manifest, indent=1, sort_keys=True)
    part = folder / "manifest.part"
    part.write_text(text)
    part.replace(folder / MANIFEST)
    return hashlib.sha256(text.encode()).hexdigest()


def load(folder: Path, *, mapped: bool = False) -> SignatureIndex:
    """Read the index in a folder; ``mapped`` leaves its arrays on disk.

    Raises:
        BadInput: ``index`` when a file is missing or differs from what was saved.
    """
    manifest = _manifest(folder / MANIFEST)
    arrays: dict[str, Array] = {}
    for name in _ARRAYS:
        path = folder / f"{name}.npy"
        try:
            if _digest(path) != manifest["sha256"].get(name):
                raise BadInput("index", f"{path}: it is not as it was saved; build the index again")
            arrays[name] = np.load(path, mmap_mode="r" if mapped and name != "table" else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise BadInput("index", f"{path}: cannot be read: {error}") from None
    rows = Windows(arrays["ids"], arrays["units"], arrays["kinds"], arrays["vectors"])
    return SignatureIndex.restored(rows, arrays["table"], manifest["sorted"])


def _manifest(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValueError) as error:
        raise BadInput("index", f"{path}: cannot be read: {error}") from None
    well_formed = isinstance(found, dict) and type(found.get("sorted")) is int and isinstance(found.get("sha256"), dict)
    if not well_formed or found.get("format") != FORMAT:
        raise BadInput("index", f"{path}: is no manifest of {FORMAT}")
    manifest: dict[str, Any] = found
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
