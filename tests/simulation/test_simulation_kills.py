"""A short, seeded round of the fault campaign; ``make soak`` plays many."""

from __future__ import annotations

import pytest
from support.world import open_folder

from tests.simulation.campaign import play_round

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_killing_everything_once_loses_nothing_and_announces_once():
    with open_folder("kills") as folder:
        outcome = play_round(folder, seed=7)
    print(f"seed {outcome.seed}; the story waited {outcome.held_s:g} s; killed: {', '.join(outcome.killed)}")
    assert outcome.faults == []
