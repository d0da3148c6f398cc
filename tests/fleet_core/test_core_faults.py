import subprocess
import sys

import pytest

from fleet_core import faults
from fleet_core.errors import BadConfig, Retryable

PASS_THREE_TIMES = (
    "from fleet_core.faults import fault_point\nfor i in range(3): fault_point('here'); print(i, flush=True)"
)


def run_armed(armed, directory=""):
    environment = {"FORESTALL_FAULTS": armed, "FORESTALL_FAULTS_DIR": str(directory)}
    return subprocess.run([sys.executable, "-c", PASS_THREE_TIMES], env=environment, capture_output=True, text=True)


def test_kill_strikes_at_the_named_passage_with_no_goodbye():
    ended = run_armed("here=kill@2")
    assert (ended.returncode, ended.stdout) == (-9, "0\n")


def test_other_points_pass_untouched():
    assert run_armed("elsewhere=kill").stdout == "0\n1\n2\n"


def test_with_a_directory_a_fault_fires_once_across_restarts(tmp_path):
    assert run_armed("here=kill", tmp_path).returncode == -9
    assert run_armed("here=kill", tmp_path).returncode == 0


def test_raise_is_retryable(monkeypatch):
    monkeypatch.setattr(faults, "_armed", faults._parse("here=raise"))
    with pytest.raises(Retryable, match="here"):
        faults.fault_point("here")
    faults.fault_point("here")  # it fired; the next passage is free


@pytest.mark.parametrize("text", ["here", "here=explode", "here=kill@x"])
def test_a_misspelt_fault_is_refused(text):
    with pytest.raises(BadConfig, match="FORESTALL_FAULTS"):
        faults._parse(text)
