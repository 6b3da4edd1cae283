"""Retraining while the champion's drift alarm is active: hours from before the change judge nobody."""

from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import run
from conftest import random_hours
from test_monitor import at, bars_until
from test_retrain import LENIENT, SETTINGS, START, Loop, promoted, stored, turned

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.alert_tables import read_active
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import MonitorState
from lstm_ts.ledger.monitor_tables import put_states
from lstm_ts.market.session import HOUR, Session
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.monitor import RETRAIN
from lstm_ts.monitoring.concept_drift import DriftState
from lstm_ts.monitoring.standing_drift import find_drift
from lstm_ts.registry.holdout import Change, HoldoutData, hold_out

__all__ = ["promoted", "stored", "turned"]  # fixtures
DRIFTED = DriftState(700, (4000.0,) * 3, threshold=2000.0, run_log=8.0, run_hours=100, run_excess=20.0)
CHANGED = START + timedelta(weeks=28)
LEARNING = (*SETTINGS, "retrain.holdout=5w", "trainer.max_epochs=10", "net.hidden=8", "net.decoder=8",
            "gate.baselines=[persistence]")  # fmt: skip


def raise_alarm(ledger: Ledger, since: datetime) -> None:
    state = asdict(replace(DRIFTED, drift_since=since.isoformat()))
    with ledger.transaction() as connection:
        put_states(connection, [MonitorState("XAGUSD", 1, "drift", since, state)])


@pytest.mark.slow
def test_without_an_alarm_there_is_no_drift(turned: Loop) -> None:
    assert find_drift(turned.ledger, "XAGUSD", 1) is None
    raise_alarm(turned.ledger, CHANGED)
    assert find_drift(turned.ledger, "XAGUSD", 1) == CHANGED
    assert find_drift(turned.ledger, "XAGUSD", 2) is None


@pytest.mark.slow
def test_what_has_not_learnt_the_change_is_not_promoted_as_fresher_and_no_worse(
    turned: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stops on the first half of the hours since, and is judged on the second."""
    raise_alarm(turned.ledger, since := week(21))
    turned.retrain(24, *LENIENT)
    assert (turned.champion, turned.verdicts) == (1, ["promote", "reject"])
    version = turned.registry.version("XAGUSD", 2)
    gate = turned.registry.read_gate(version)
    checks = {check["name"]: (check["passed"], check["reason"]) for check in gate["checks"]}
    assert checks["drift"][0] and "The champion has drifted since about 2014-06-02 00:00 UTC: all" in checks["drift"][1]
    assert not checks["champion at 1 h"][0] and "better" in checks["champion at 1 h"][1]
    provenance, decision = turned.registry.load(version).provenance, turned.ledger.decisions("XAGUSD")[1]
    assert provenance.trained_until == version.tags["drift_since"] == since.isoformat()
    assert (provenance.data_end, version.tags["shortened"]) == (decision.span_start.isoformat(), "true")
    assert since + timedelta(days=9) < decision.span_start < since + timedelta(days=10)  # of 18 and a weekend
    raise_alarm(turned.ledger, since + HOUR)
    turned.retrain(24, *LENIENT)
    assert "Nothing new" not in capsys.readouterr().out


@pytest.mark.slow
def test_with_too_few_hours_since_the_champion_stays_and_nothing_is_trained_in_vain(
    turned: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    raise_alarm(turned.ledger, week(23))
    turned.retrain(24, *LENIENT)
    assert (turned.champion, turned.verdicts) == (1, ["promote", "insufficient_evidence"])
    (said,) = (row.reasons[0] for row in turned.ledger.decisions("XAGUSD")[1:])
    assert said.startswith("The champion has drifted since about 2014-06-16 00:00 UTC: 1")
    assert said.endswith(" origins lie after that; 200 are required, half of them to stop on and half to judge on.")
    capsys.readouterr()
    turned.retrain(24, *LENIENT, "seed=1")
    said = capsys.readouterr().out
    assert (
        "Gate: insufficient_evidence: version 1 of XAGUSD has drifted since about 2014-06-16 00:00 UTC, and 1" in said
    )
    assert "of the 200 hours are there" in said and "nothing was trained. Version 2 may be tried as challenger" in said
    turned.retrain(25, *LENIENT)
    assert (turned.champion, turned.verdicts) == (1, ["promote", "insufficient_evidence", "reject"])


def lay_out(symbol: Symbol, since: datetime | None, min_hours: int = 100, seen: datetime | None = None) -> HoldoutData:
    """Of 26 weeks, of which two are held out and stopped on where nothing has changed."""
    hourly_bars = random_hours(symbol.session, START, START + timedelta(weeks=26), missing=0)
    bars = [SymbolBars(symbol, hourly_bars, "synthetic")]
    change = Change(since, min_hours) if since else None
    return hold_out(bars, end=None, valid="2w", holdout="2w", change=change, seen_until=seen)[0]


@pytest.fixture
def xagusd(silver: Session) -> Symbol:
    from lstm_ts.cli import compose
    from lstm_ts.configuration.parts import construct

    symbol: Symbol = construct(compose("project", []).symbol)
    assert symbol.session.calendar == silver.calendar
    return symbol


def test_hours_since_a_change_are_halved_until_they_hold_the_usual_spans(xagusd: Symbol) -> None:
    usual = lay_out(xagusd, None)
    assert (usual.start, usual.shortened) == (usual.end - timedelta(weeks=2), False)
    monday = START + timedelta(weeks=24)
    recent = lay_out(xagusd, monday)  # two weeks of 115 hours, of which the 116th opens the second Sunday
    assert (recent.valid_from, recent.start) == (monday, datetime(2014, 6, 29, 22, tzinfo=UTC))
    old = lay_out(xagusd, week(20))
    assert (old.valid_from, old.start) == (usual.valid_from, usual.start)


def test_with_too_few_hours_since_a_change_the_spans_are_the_usual_ones(xagusd: Symbol) -> None:
    usual, early = lay_out(xagusd, None), lay_out(xagusd, START + timedelta(weeks=24), min_hours=116)
    assert (early.valid_from, early.start) == (usual.valid_from, usual.start)


def test_what_a_champion_has_seen_is_not_held_out(xagusd: Symbol) -> None:
    seen = START + timedelta(weeks=25)
    held = lay_out(xagusd, None, seen=seen)
    assert (held.start, held.shortened) == (seen, True)  # so it is not for the next one either
    with pytest.raises(ConfigError, match=r"retrain.holdout"):
        lay_out(xagusd, None, seen=START + timedelta(weeks=27))


def turn_around(bars: pl.DataFrame) -> pl.DataFrame:
    """Returns that take back 0.6 of the one before until CHANGED, and go on with as much from then on."""
    drawn_N = np.diff(np.log(bars["close"]), prepend=np.log(bars["open"][0]))
    share_N = np.where((bars["ts"] < CHANGED).to_numpy(), -0.6, 0.6)
    returns = [drawn_N[0]]
    for drawn, share in zip(drawn_N[1:], share_N[1:], strict=True):
        returns.append(drawn + share * returns[-1])
    close_N = 20 * np.exp(np.cumsum(returns))
    open_N = close_N / np.exp(returns)
    return bars.with_columns(
        open=pl.Series(open_N),
        close=pl.Series(close_N),
        high=pl.Series(np.maximum(open_N, close_N) * 1.001),
        low=pl.Series(np.minimum(open_N, close_N) / 1.001),
    )


def week(number: int) -> datetime:
    return START + timedelta(weeks=number)


class Production:
    """Commands, each with the bars there are by its clock."""

    def __init__(self, folder: Path, hourly_bars: pl.DataFrame) -> None:
        self.folder, self.hourly_bars = folder, hourly_bars

    def run(self, command: str, ts: datetime, *settings: str) -> tuple[int, str]:
        bars_until(self.folder, self.hourly_bars, ts)
        done = run(command, self.folder, *settings, **at(ts))
        assert done.returncode in (0, RETRAIN), done.stderr
        return done.returncode, done.stdout

    def retrain(self, ts: datetime) -> str:
        said = self.run("retrain", ts, *LEARNING)[1]
        return said[said.find("Gate:") :]

    def monitor(self, ts: datetime) -> int:
        return self.run("monitor", ts, "drift.min_origins=100")[0]

    def has_open_drift(self) -> bool:
        with closing(self.ledger()) as ledger, ledger.transaction() as connection:
            return "concept_drift" in {row.rule for row in read_active(connection)}

    def ledger(self) -> Ledger:
        return Ledger(f"sqlite:///{self.folder}/outputs/registry/ledger.db")


@pytest.mark.slow
def test_what_has_learnt_the_change_is_promoted_and_the_incident_is_over_once_it_has_proved_itself(
    silver: Session, tmp_path: Path
) -> None:
    this = Production(tmp_path, turn_around(random_hours(silver, START, week(34))))
    assert "Gate: promote" in this.retrain(week(26))
    assert this.monitor(week(28)) == 0
    assert this.monitor(week(29)) == RETRAIN
    assert "Gate: insufficient_evidence (judged against version 1 of XAGUSD)" in this.retrain(week(29))
    assert "nothing was trained" in this.retrain(week(29) + 30 * HOUR)
    assert this.monitor(week(30)) == RETRAIN
    assert "Gate: promote as better (judged against version 1 of XAGUSD)" in this.retrain(week(30))
    with closing(this.ledger()) as ledger:
        decision = ledger.decisions("XAGUSD")[2]
    assert decision.span_start > CHANGED
    assert this.monitor(week(31)) == 0
    assert this.has_open_drift()  # another version serves, which is no cure yet
    assert this.monitor(week(32)) == 0
    assert not this.has_open_drift()
    assert "judged against version 3 of XAGUSD" in this.retrain(week(32))  # on what that has not seen
