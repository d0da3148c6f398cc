"""A tenant's policy is checked when it is imported: what is wrong is named there, and never becomes the default."""

from __future__ import annotations

import pytest

from fleet_core.errors import BadConfig
from fleet_server.registry import SAMPLE, parse_registry
from fleet_server.resolution.policy import policy_for

HEAD = 'jurisdiction = "EU"\n'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("act_probabilty = 0.4", "act_probabilty.*did you mean 'act_probability'"),
        ("retry_atempts = 3", "retry_atempts.*did you mean 'retry_attempts'"),
        ("shoe_size = 43", "shoe_size.*unknown"),
        ("act_probability = 7", "act_probability.*less than or equal to 1"),
        ("act_probability = nan", "act_probability"),
        ("cost_limit_eur = inf", "cost_limit_eur"),
        ("work_h = -2", "work_h.*greater than 0"),
        ("escalation_due_h = {normal = -1.0}", "escalation_due_h.*normal.*greater than 0"),
        ("escalation_due_h = {norml = 4.0}", "escalation_due_h.*norml.*did you mean 'normal'"),
        ('approval_classes = ["robbot"]', "approval_classes.*robbot.*did you mean 'robot'"),
        ('act_probability = "0.4"', "act_probability.*number"),
        ("act_probability = true", "act_probability.*number"),
        ("require_approval = 1", "require_approval.*boolean"),
        ('require_approval = "no"', "require_approval.*boolean"),
        ("retry_attempts = 2.5", "retry_attempts"),
    ],
)
def test_a_wrong_policy_is_an_error_at_import(line: str, complaint: str) -> None:
    with pytest.raises(BadConfig, match=rf"fleet\.toml: tenant\.1.*acme.*policy.*{complaint}"):
        parse_registry(SAMPLE.replace(HEAD, f"{HEAD}[tenant.policy]\n{line}\n", 1), "fleet.toml")


def test_a_right_policy_is_taken_as_it_is() -> None:
    text = "act_probability = 1\napproval_classes = ['robot']\nescalation_due_h = {low = 12}\n"
    registry = parse_registry(SAMPLE.replace(HEAD, f"{HEAD}[tenant.policy]\n{text}", 1), "fleet.toml")
    assert registry.tenant[0].policy is not None
    policy = policy_for(registry.tenant[0].policy)
    assert (policy.act_probability, policy.approval_classes, policy.escalation_due_h) == (1.0, ("robot",), {"low": 12})
