"""Detection says of recordings what it said when their digests were kept: a handful of small ones, unlike each other.

All of them: ``python -m tests.recordings.digest``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recordings.digest import SCORE_TOLERANCE, Digest, differences, judge, load

RECORDINGS = (
    "ims/2nd_test.csv",  # a bearing that fails
    "skab/valve1/0.csv",  # seconds, text for labels
    "nab/data/artificialWithAnomaly/art_daily_nojump.csv",  # days are learnt: the young phase, a season, the slow plane
    "femto/raw/Bearing3_1.npz",  # waveforms
    "smap_msl/A-1.npz",  # refused
)


@pytest.mark.data
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_judged_as_its_digest_says(recorded_data: Path, name: str) -> None:
    if not (recorded_data / name).exists():
        pytest.skip(f"{name} is not among the recordings")
    digest, _ = judge(recorded_data / name, name)
    assert list(differences(load()[name], digest)) == []


def test_digests_tell_what_differs() -> None:
    one = Digest(rows=3, alarm_rows=1, alarms=((2, 2),), verdicts="a", score_sum=1.5, scores=(0.1, 0.9))
    assert list(differences(one, one)) == []
    near = Digest(3, 1, ((2, 2),), "a", 1.5, (0.1, 0.9 + SCORE_TOLERANCE / 2))
    assert list(differences(one, near)) == []
    for other, word in (
        (Digest(3, 2, ((1, 2),), "b", 1.5, (0.1, 0.9)), "verdicts"),
        (Digest(3, 1, ((2, 2),), "a", 1.5, (0.1, 0.9 + 2 * SCORE_TOLERANCE)), "scores"),
        (Digest(3, 1, ((2, 2),), "a", 1.6, (0.1, 0.9)), "score_sum"),
        (Digest(refused="not a table"), "refused"),
    ):
        assert any(said.startswith(word) for said in differences(one, other))


def test_every_recording_named_here_has_a_digest() -> None:
    kept = load()
    assert set(RECORDINGS) <= kept.keys() and kept["ims/2nd_test.csv"].alarm_rows > 100
    assert kept["smap_msl/A-1.npz"].refused.startswith("npz: smap_msl/A-1.npz: ")
