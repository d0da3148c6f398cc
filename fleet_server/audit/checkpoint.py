"""Signed checkpoints of the audit tree: statements "the tree had this size and this root", signed with Ed25519.

Checkpoints are stored in the database and, as one JSON object in each line, in a file on another disk or host. Somebody
who can rewrite the database cannot shorten the log unnoticed, because the file keeps its former size.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from fleet_core.errors import BadConfig, BadInput

MAX_LINE = 4096


@dataclass(frozen=True, slots=True)
class Checkpoint:
    tree_size: int
    root_hash: bytes
    signed_at: datetime
    key_id: str
    signature: bytes

    def to_json(self) -> str:
        return json.dumps(
            {
                "tree_size": self.tree_size,
                "root_hash": self.root_hash.hex(),
                "signed_at": self.signed_at.astimezone(UTC).isoformat(),
                "key_id": self.key_id,
                "signature": base64.b64encode(self.signature).decode(),
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Checkpoint:
        """Raises BadInput."""
        try:
            record = json.loads(line[:MAX_LINE])
            return cls(
                int(record["tree_size"]),
                bytes.fromhex(record["root_hash"]),
                datetime.fromisoformat(record["signed_at"]),
                str(record["key_id"]),
                base64.b64decode(record["signature"], validate=True),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput("checkpoint", f"a line of the checkpoint file cannot be read: {error}") from None


def signed_text(tree_size: int, root_hash: bytes, signed_at: datetime) -> bytes:
    """The bytes that a signature covers."""
    return f"forestall audit 1\n{tree_size}\n{root_hash.hex()}\n{signed_at.astimezone(UTC).isoformat()}\n".encode()


def sign(key: Ed25519PrivateKey, tree_size: int, root_hash: bytes, signed_at: datetime) -> Checkpoint:
    signature = key.sign(signed_text(tree_size, root_hash, signed_at))
    return Checkpoint(tree_size, root_hash, signed_at, key_id(key.public_key()), signature)


def is_signed_by(key: Ed25519PublicKey, checkpoint: Checkpoint) -> bool:
    try:
        key.verify(checkpoint.signature, signed_text(checkpoint.tree_size, checkpoint.root_hash, checkpoint.signed_at))
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def new_key(path: Path) -> None:
    """Write a new private key, readable by its owner only; never overwrites."""
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)


def load_key(path: Path) -> Ed25519PrivateKey:
    """Raises BadConfig."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise BadConfig(
            f"audit.signing_key_file {path}: no such file; `fleet-server init --dir DIR` makes one"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise BadConfig(f"audit.signing_key_file {path}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadConfig(f"audit.signing_key_file {path}: not an Ed25519 key")
    return key


def append_line(path: Path, checkpoint: Checkpoint) -> None:
    """Append a checkpoint to the file and sync it to the disk. A line that a crash left incomplete is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(checkpoint.to_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> Iterator[Checkpoint]:
    """The checkpoints of the file. A line that a crash left incomplete is skipped: the next line covers it."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield Checkpoint.from_json(line)
            except BadInput:
                if line.rstrip().endswith("}"):
                    raise
