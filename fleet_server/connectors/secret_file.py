"""A secret in a file of its own: read anew for every call, so that a changed one works at once.

A file that is missing, empty or no single line of text is waited for (Retryable): whoever changes a secret may take the
old file away first. What is wrong stands in one line with the setting and the path, never the secret.
"""

from __future__ import annotations

from pathlib import Path

from fleet_core.errors import BadConfig, Retryable

MAX_SECRET_BYTES = 16 * 1024


def read_secret(path: Path | str, setting: str, holds: str = "one line of ASCII text") -> str:
    """The secret as it is now; ``holds`` says to people what the file must hold. Raises Retryable."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise Retryable(f"{setting} {path}: {error.strerror}") from None
    try:
        secret = content.decode("ascii").strip()
    except UnicodeDecodeError:
        secret = "\0"
    if not secret:
        raise Retryable(f"{setting} must hold {holds}; {path} is empty")
    if not secret.isprintable() or len(content) > MAX_SECRET_BYTES:
        raise Retryable(f"{setting} must hold {holds}; {path} does not")
    return secret


def require_secret(path: Path | str, setting: str) -> str:
    """The secret as it is while a process starts. Raises BadConfig."""
    try:
        return read_secret(path, setting)
    except Retryable as error:
        raise BadConfig(str(error)) from None
