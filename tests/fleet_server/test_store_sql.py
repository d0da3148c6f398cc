"""Named statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_core.errors import BadConfig
from fleet_server.store.sql import Queries, queries


def test_blocks_by_name(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text("-- about\n\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n")
    found = Queries(file)
    assert found.one == "SELECT 1"
    assert found.two == "-- why\nSELECT 2"
    with pytest.raises(AttributeError, match=r"three.*one, two"):
        _ = found.three


@pytest.mark.parametrize("text", ["SELECT 0\n-- name: one\nSELECT 1\n", "-- name: a\nx\n-- name: a\ny\n"])
def test_stray_text_and_doubles_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.sql"
    file.write_text(text)
    with pytest.raises(BadConfig):
        Queries(file)


def test_every_file_of_the_package_loads() -> None:
    import fleet_server.store.sql as module

    files = sorted((Path(module.__file__).parent / "queries").glob("*.sql"))
    assert files
    for file in files:
        queries(file.stem)
