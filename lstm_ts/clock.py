"""The current time: the machine's, or that of LSTM_TS_CLOCK. Nothing else of the product asks the operating system.

    LSTM_TS_CLOCK="2015-03-02T00:00:00Z"                            stands still
    LSTM_TS_CLOCK="2015-03-02T00:00:00Z 60 2026-11-28T21:00:00Z"    was the first at the second, runs 60 times as fast
    LSTM_TS_CLOCK=/tmp/clock                                        the contents of that file, read again for each time

All processes that have the same text in their environment agree, whenever they start. Timeouts, latencies and the pace
of requests stay real, and so do the stamps of other programs: MLflow's, Dagster's schedule, log lines.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from lstm_ts.errors import ConfigError

CLOCK = "LSTM_TS_CLOCK"
FASTEST = 10_000.0  # a month in four minutes
YEARS = range(1900, 2201)
SKEW = timedelta(minutes=5)  # by which this machine's clock may be behind
FORM = (
    f'{CLOCK} as "TIME", which stands still, or "TIME SPEED SINCE", such as "2015-03-02T00:00:00Z 60 %s", or as the '
    f"path of a file with one of them, from / on"
)
FILE_FORM = f"{CLOCK} as a time, or as the path of a file that has one"


@dataclass(frozen=True)
class Clock:
    """A linear clock, which shows `start` at the real time `since`; its text is a value of LSTM_TS_CLOCK."""

    start: datetime
    speed: float  # 0: stands still
    since: datetime  # real time

    def at(self, real: datetime) -> datetime:
        """Raises    OverflowError: beyond the years of a datetime"""
        return self.start + self.speed * (real - self.since)

    def __str__(self) -> str:
        start = self.start.isoformat()
        return f"{start} {self.speed!r} {self.since.isoformat()}" if self.speed else start


def now() -> datetime:
    """Return the current time in UTC.    Raises    ConfigError"""
    set_to, real = read_clock(), datetime.now(UTC)
    return set_to.at(real) if set_to else real


def speed() -> float:
    """Return the clock's seconds per real second; 1 for a clock that stands still, too.    Raises    ConfigError"""
    set_to = read_clock()
    return (set_to.speed if set_to else 0) or 1.0


def fix_hint() -> str:
    """Return what to do about a clock that disagrees with a server's, for an error message."""
    return f"unset {CLOCK}" if read_clock() else "synchronise this machine's clock"


def check_after(opened: datetime) -> None:
    """Raises    ConfigError: the stored bar that opened then is in the future"""
    if opened > (at := now()) + SKEW:
        raise ConfigError(
            f"Expected a time after the last stored bar, which opened at {opened:%Y-%m-%d %H:%M} UTC, "
            f"got {at:%Y-%m-%d %H:%M} UTC; {fix_hint()}"
        )


def read_clock() -> Clock | None:
    """Return the clock of the environment; None: the machine's.    Raises    ConfigError"""
    text = os.environ.get(CLOCK, "").strip()
    return _read(_read_file(text) if text.startswith("/") else text)


def _read_file(path: str) -> str:
    try:
        text, problem = Path(path).read_text("utf-8").strip(), "it is empty"
    except (OSError, UnicodeDecodeError) as error:
        text, problem = "", str(error)
    if not text:
        raise ConfigError(f"Expected {FILE_FORM}, got {path}: {problem}; correct it, or unset it")
    return text


@lru_cache(maxsize=8)
def _read(text: str) -> Clock | None:
    if not (words := text.split()):
        return None
    real = datetime.now(UTC)
    try:
        set_to = _parse(words, real)
        set_to.at(real)
        if set_to.start.year not in YEARS:
            raise ValueError(f"a year is one of {YEARS[0]} to {YEARS[-1]}")
    except (ValueError, OverflowError) as error:
        form = FORM % f"{real:%Y-%m-%dT%H:%M:%SZ}"
        raise ConfigError(f"Expected {form}, got {text!r}: {error}; correct it, or unset it") from None
    return set_to


def _parse(words: Sequence[str], real: datetime) -> Clock:
    """Raises    ValueError"""
    if len(words) == 1:
        return Clock(_moment(words[0]), 0.0, real)
    if len(words) != 3:
        raise ValueError(f"it has {len(words)} words, where one says the time, and three how it runs")
    start, speed, since = words
    if not 0 < float(speed) <= FASTEST:
        raise ValueError(f"a speed is above 0 and at most {FASTEST:g}")
    return Clock(_moment(start), float(speed), _moment(since))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone, such as Z")
    return moment.astimezone(UTC)
