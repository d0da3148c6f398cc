"""A short, seeded round of the fault campaign; ``make soak`` plays many."""

from __future__ import annotations

import pytest

from tests.simulation.campaign import play_round

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


def test_killing_everything_once_loses_nothing_and_announces_once(tmp_path):
    outcome = play_round(tmp_path / "round", seed=7)
    print(f"seed {outcome.seed}; killed: {', '.join(outcome.killed)}")
    assert outcome.story.get("ok"), outcome.story
    assert outcome.story["notifications"] == 1
    assert outcome.ledger["unexplained"] == 0 and outcome.ledger["held"] == 0, outcome.ledger
    assert outcome.audit["verified"]
    assert any("point" in victim for victim in outcome.killed)
