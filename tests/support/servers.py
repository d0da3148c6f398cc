"""The customer's side of a repair as real processes: reference WMS and mail sink, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.resolution import Servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    from support.resolution import Servers  # most tests need neither it nor what it imports

    from demo.processes import Keeper

    directory = tmp_path_factory.mktemp("servers")
    with Keeper(directory / "log") as keeper:
        yield Servers(keeper, directory).start()
