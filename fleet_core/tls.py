"""The TLS context of a client: the one place that decides which authority is trusted and which versions are allowed.

One connection has a context of its own: that by which a device that knows no authority yet fetches its certificate,
which it compares with the fingerprint it was given (``provisioning/device.py``).
"""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(
    authority: Path | bytes, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """A context that believes servers certified by ``authority`` alone (a PEM file, or its content), from TLS 1.2 on.

    With ``cert_file`` and ``key_file`` the client shows a certificate of its own. Host names are checked. Raises
    OSError (``ssl.SSLError`` is one) when a file cannot be read, holds no certificate, or does not fit the other.
    """
    if isinstance(authority, bytes):
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=authority.decode("ascii"))
    else:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file)
    return context
