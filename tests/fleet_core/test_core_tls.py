"""A client's TLS context: whom it believes, what it speaks, and what a bad file raises."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_core.tls import client_context
from provisioning import certificates as x

NOW = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> tuple[x.PrivateKey, bytes]:
    key = x.new_key()
    return key, x.to_pem(x.make_authority(key, "Test authority", NOW))


@pytest.mark.parametrize("as_file", [True, False])
def test_only_the_authority_is_believed_and_names_are_checked(
    authority: tuple[x.PrivateKey, bytes], tmp_path: Path, as_file: bool
) -> None:
    path = tmp_path / "ca.crt"
    path.write_bytes(authority[1])
    context = client_context(path if as_file else authority[1])
    assert [dict(field[0] for field in found["subject"])["commonName"] for found in context.get_ca_certs()] == [
        "Test authority"
    ]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_bad_files_raise_oserror(authority: tuple[x.PrivateKey, bytes], tmp_path: Path) -> None:
    authority_file, other_key = tmp_path / "ca.crt", tmp_path / "other.key"
    authority_file.write_bytes(authority[1])
    other_key.write_bytes(x.key_to_pem(x.new_key()))
    with pytest.raises(OSError, match="No such file"):
        client_context(tmp_path / "missing")
    with pytest.raises(OSError, match=r"(?i)no certificate|pem"):
        client_context(other_key)
    with pytest.raises(ssl.SSLError, match=r"(?i)mismatch"):
        client_context(authority_file, authority_file, other_key)
