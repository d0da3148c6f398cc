"""How soon a standing case's prognosis is made anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.case_files import prognosis

from fleet_server.resolution.policy import policy_for
from fleet_server.resolution.refreshing import refresh_after_h

POLICY = policy_for({})


@given(early_h=st.floats(0, 1e6))
def test_the_nearer_the_failure_the_oftener(early_h: float) -> None:
    made = prognosis(rul_p10_h=early_h)
    after_h = refresh_after_h(POLICY, made)
    assert 0.25 <= after_h <= POLICY.look_again_h
    assert after_h <= refresh_after_h(POLICY, prognosis(rul_p10_h=early_h * 2))


def test_without_a_forecast_it_is_looked_at_as_a_watched_case_is() -> None:
    assert refresh_after_h(POLICY, None) == refresh_after_h(POLICY, prognosis(abstained=True, rul_p10_h=None)) == 2.0
    assert refresh_after_h(policy_for({"look_again_h": 0.1}), prognosis(rul_p10_h=1.0)) == 0.1
