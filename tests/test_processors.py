"""How many processors a training may keep busy."""

import os
from pathlib import Path

import pytest

from lstm_ts.processors import count_processors


@pytest.mark.parametrize(
    ("content", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None), ("900000000 100000", None)],
)
def test_a_quota_is_whole_processors_and_at_least_one(tmp_path: Path, content: str, expected: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    assert count_processors(quota) == (expected or len(os.sched_getaffinity(0)))


def test_where_there_is_no_quota_the_affinity_counts(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert count_processors(tmp_path / "none") == 1
    finally:
        os.sched_setaffinity(0, allowed)
