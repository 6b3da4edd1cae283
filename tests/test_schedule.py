"""The user's cache of sessions: what is in it is what the calendar says, and nothing depends on it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lstm_ts.errors import ConfigError
from lstm_ts.market import schedule
from lstm_ts.market.schedule import sessions_of_year

SAY = """
import sys
from lstm_ts.market.schedule import sessions_of_year
frame = sessions_of_year("CMEGlobex_Silver", 2015)
print("pandas" in sys.modules, frame.height, frame["opens"][0], frame["closes"][-1])
"""


def say(cache: Path | str) -> str:
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", SAY]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    return tmp_path


def forget() -> None:
    sessions_of_year.cache_clear()
    schedule._folder.cache_clear()


@pytest.fixture(autouse=True)
def forget_afterwards() -> None:
    forget()


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.glob("lstm_ts/sessions-*/*"))


def test_the_second_process_reads_what_the_first_has_laid_out(tmp_path: Path) -> None:
    first = say(tmp_path)
    # New Year's Eve closes at 17:00 New York.
    assert first.startswith("True ") and first.endswith("2015-12-31 22:00:00+00:00\n")
    assert say(tmp_path) == first.replace("True", "False")
    assert kept(tmp_path) == ["CMEGlobex_Silver-2015.arrow"]


def test_a_user_without_a_home_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = sessions_of_year("SpotFX", 2020)
    forget()
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # of no user that the machine knows
    assert sessions_of_year("SpotFX", 2020).equals(whole)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_whole_leaves_nothing(cache: Path) -> None:
    whole = sessions_of_year("SpotFX", 2020)
    (path,) = cache.glob("lstm_ts/sessions-*/*")
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    forget()
    assert sessions_of_year("SpotFX", 2020).equals(whole)
    assert kept(cache) == [path.name]


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"x" * 5000])
def test_a_broken_file_is_replaced(cache: Path, content: bytes) -> None:
    whole = sessions_of_year("SpotFX", 2020)
    [path] = cache.glob("lstm_ts/*/SpotFX-2020.arrow")
    good = path.read_bytes()
    path.write_bytes(content)
    forget()
    assert sessions_of_year("SpotFX", 2020).equals(whole)
    assert path.read_bytes() == good


def test_a_file_of_another_schema_is_replaced(cache: Path) -> None:
    whole = sessions_of_year("SpotFX", 2020)
    [path] = cache.glob("lstm_ts/*/SpotFX-2020.arrow")
    pl.DataFrame({"opens": [1]}).write_ipc(path)
    forget()
    assert sessions_of_year("SpotFX", 2020).equals(whole)


@pytest.mark.parametrize("cache", ["/proc/nowhere", "/dev/null"])
def test_where_nothing_can_be_written_sessions_are_laid_out_each_time(cache: str) -> None:
    first, again = say(cache), say(cache)
    assert first == again and first.startswith("True ")


def test_a_calendar_that_nobody_knows_is_named_and_nothing_is_kept(cache: Path) -> None:
    for name in ("Nowhere", "../../x", ""):
        with pytest.raises(ConfigError, match="known to pandas_market_calendars, got"):
            sessions_of_year(name, 2020)
    assert kept(cache) == []


def test_other_code_of_the_calendars_has_a_cache_of_its_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schedule._folder()
    monkeypatch.setattr(schedule, "version", lambda name: "another")
    schedule._folder.cache_clear()
    assert schedule._folder() != before


def test_lunch_breaks_are_kept_too(cache: Path) -> None:
    first = sessions_of_year("JPX", 2024)
    forget()
    again = sessions_of_year("JPX", 2024)
    day = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
    assert again.equals(first)
    assert again.filter(pl.col("opens").is_between(*day)).height == 2
