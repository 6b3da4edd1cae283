"""Hours that the monitor takes one after the other, in this process: what it makes of late, folded and revised ones."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import random_hours
from serving import registry_of, save_model
from test_registry import register
from watched import CLOCK, LEVELS, opened

from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError, LedgerError
from lstm_ts.ledger.monitor_rows import HourlyForecast, MonitorState
from lstm_ts.ledger.monitor_tables import put_states, read_daily_losses, read_daily_scores, read_scores, read_states
from lstm_ts.ledger.rows import DecisionRow, ForecastRow, ServedPath
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session, midnight
from lstm_ts.model.artifact import save_forecasters
from lstm_ts.model.evaluation import Span
from lstm_ts.monitor import make_settings
from lstm_ts.monitoring.challenge import CHALLENGE
from lstm_ts.monitoring.checks import check_market, measure_skill
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.live_skill import list_daily_metrics
from lstm_ts.monitoring.run import MonitorRun, find_start, forecast_hours, load_watched, watch_versions
from lstm_ts.monitoring.served import SERVED, check_skew
from lstm_ts.monitoring.skew import PATH_LEVELS
from lstm_ts.monitoring.versions import DRIFT, REFERENCE, StoredRows, Update, find_whole
from lstm_ts.scoring.records import TERCILES
from lstm_ts.store.bar_store import BarStore

DECIDED = datetime(2014, 7, 7, tzinfo=UTC)  # a Monday
SPAN = datetime(2014, 4, 1, tzinfo=UTC), DECIDED
DAY, MINUTE, SOON = timedelta(days=1), timedelta(minutes=1), timedelta(minutes=4)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Watch:
    """A champion and a version of its name that holds no alias yet, forecasting 24 hours."""

    run: MonitorRun
    bars: pl.DataFrame

    def at(self, now: datetime, *overrides: str, bars: pl.DataFrame | None = None, days: int = 120) -> list[Update]:
        """One run of the monitor.

        bars   that are stored; None: all that have closed
        days   of retention
        """
        bars = self.bars if bars is None else bars
        closed = bars.filter(pl.col("ts") + HOUR <= now)
        run = self.run = replace(self.run, hourly_bars=closed, now=now, kept_from=midnight(now - days * DAY))
        settings = make_settings(compose("monitor", overrides))
        loaded = load_watched(run)
        updates = watch_versions(run, loaded, settings)
        for each, update in zip(loaded, updates, strict=True):
            measure_skill(run, each.watched, settings.skill, update.record)
        return updates

    def promote(self, version: int, at: datetime, alias: str = "champion") -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(CLOCK, at.isoformat())
            self.run.registry.promote("XAGUSD", version, alias=alias, actor="a test", reason="it is its turn")

    def count(self, version: int = 1) -> tuple[int, int]:
        """Outcomes one hour ahead that the evidence of drift holds, and that the sums by day hold."""
        with self.run.ledger.transaction() as connection:
            state = read_states(connection, "XAGUSD", version)[DRIFT]
            days = read_daily_scores(connection, "XAGUSD", version, step=1)
        return state["n"], sum(day.sums["n"] for day in days)


@pytest.fixture(scope="module")
def bars(silver: Session) -> pl.DataFrame:
    return random_hours(silver, datetime(2014, 1, 6, tzinfo=UTC), datetime(2014, 9, 20, tzinfo=UTC), missing=0)


def register_two(
    folder: Path, empty: Path, bars: pl.DataFrame, session: Session, span: tuple[datetime, datetime]
) -> Path:
    """span   of the hours that judged them, until their decision"""
    shutil.copytree(empty, folder, dirs_exist_ok=True)
    decided = span[1]
    with registry_of(folder) as registry, opened(folder) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOCK, decided.isoformat())
        for number in (1, 2):
            model = save_model(folder / str(number), bars, session, seed=number, horizon=24, levels=LEVELS)
            register(registry, model)
            ledger.record_decision(DecisionRow("XAGUSD", number, decided, "promote", False, None, (), *span, "ab"))
        registry.promote("XAGUSD", 1, alias="champion", actor="a test", reason="the first")
    return folder


@contextmanager
def watching(folder: Path, bars: pl.DataFrame, session: Session) -> Iterator[Watch]:
    symbol = replace(construct(compose("monitor", []).symbol), session=session)
    with registry_of(folder) as registry, opened(folder) as ledger:
        yield Watch(MonitorRun(ledger, registry, symbol, "XAGUSD", bars, DECIDED, DECIDED, ""), bars)


@pytest.fixture(scope="module")
def registered(empty: Path, bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return register_two(tmp_path_factory.mktemp("registered"), empty, bars, silver, SPAN)


@pytest.fixture
def watch(registered: Path, bars: pl.DataFrame, silver: Session, tmp_path: Path) -> Iterator[Watch]:
    for name in ("mlflow.db", "ledger.db"):
        shutil.copy(registered / name, tmp_path / name)
    with watching(tmp_path, bars, silver) as watch:
        yield watch


def list_logged(watch: Watch) -> dict[str, list[tuple[str, float]]]:
    """Days and values in MLflow, by metric."""
    from mlflow import MlflowClient  # after ours, which sets what it reads while it is imported

    registry = watch.run.registry
    client, version = MlflowClient(registry.uri), registry.version("XAGUSD", 1)
    keys = [f"live_{kind}" for step in (1, 6, 24) for kind in (f"pinball_{step}h_bps", f"skill_best_{step}h")]
    histories = {key: client.get_metric_history(version.run_id, key) for key in keys}
    return {
        key: [(f"{EPOCH + each.step * DAY:%Y-%m-%d}", each.value) for each in history]
        for key, history in histories.items()
    }


@pytest.mark.slow
def test_mlflow_gets_a_day_once_all_its_steps_are_scored_whenever_the_monitor_runs(watch: Watch) -> None:
    for i in range(8):  # two runs a day, the first of them right after midnight
        watch.at(DECIDED + 12 * i * HOUR + SOON)
    with watch.run.ledger.transaction() as connection:
        sums = list_daily_metrics(read_daily_losses(connection, "XAGUSD", 1))
    for key, points in list_logged(watch).items():
        whole = {day.isoformat(): values[key] for day, values in sums.items() if day < date(2014, 7, 9)}
        assert len(points) == 2 and dict(points) == pytest.approx(whole)


def test_a_day_that_lacks_a_bar_waits_for_it_and_is_logged_once_it_comes_too_late(watch: Watch) -> None:
    missing = DECIDED + DAY + 5 * HOUR
    bars = watch.bars.filter(pl.col("ts") != missing)
    logged = []
    for days in (5, 9, 15, 16):
        watch.at(DECIDED + days * DAY + SOON, bars=bars)
        logged.append([day for day, _ in list_logged(watch)["live_skill_best_24h"]])
    assert logged[0] == logged[1] == []  # hours of Monday aim at the one that is missing
    assert logged[3][:3] == ["2014-07-07", "2014-07-08", "2014-07-09"]


@pytest.mark.slow
def test_a_version_that_is_champion_again_after_the_retention_counts_no_hour_twice(watch: Watch) -> None:
    watch.at(DECIDED + 5 * DAY, days=14)
    watch.promote(2, DECIDED + 5 * DAY)
    watch.at(DECIDED + 25 * DAY, days=14)
    first, _ = watch.count()
    watch.promote(1, DECIDED + 26 * DAY)
    for hours in range(2):
        watch.at(DECIDED + 26 * DAY + hours * HOUR, days=14)
    n, in_days = watch.count()
    assert n == in_days > 3 * first  # the weeks in which it was none, too


@pytest.mark.slow
def test_a_challenger_decided_on_long_ago_makes_no_hour_of_the_champion_again(watch: Watch) -> None:
    for days in (5, 25):
        watch.at(DECIDED + days * DAY, days=14)
    watch.promote(2, DECIDED + 25 * DAY, "challenger")
    watch.at(DECIDED + 26 * DAY, days=14)
    (n, in_days), (of_challenger, in_its_days) = watch.count(), watch.count(2)
    assert n == in_days > of_challenger == in_its_days  # whose hours before the retention have no outcomes any more


def test_a_challenge_counts_no_hour_before_both_have_their_roles_or_between_two_terms(watch: Watch) -> None:
    """A person may have chosen either version by those hours."""
    registry, live = watch.run.registry, []
    for days, version, alias in ((3, 2, "challenger"), (7, 2, "challenger"), (9, 1, "champion")):
        now = DECIDED + days * DAY
        registry.store.remove_alias("XAGUSD", alias)
        watch.at(now - HOUR)
        watch.promote(version, now, alias)
        watch.at(now + 5 * HOUR)
        with watch.run.ledger.transaction() as connection:
            live.append(read_states(connection, "XAGUSD", 2)[CHALLENGE]["state"]["live"]["n"])
    assert live == [5, 10, 15]


@pytest.mark.slow
def test_a_feed_that_is_away_longer_than_the_retention_makes_no_hour_count_twice(watch: Watch) -> None:
    before = DECIDED + 4 * DAY + 5 * HOUR
    watch.at(before, days=14)
    first, _ = watch.count()
    for hours in range(2):
        watch.at(before + 20 * DAY + hours * HOUR, bars=watch.bars.filter(pl.col("ts") < before), days=14)
        assert watch.count() == (first, first)
    for hours in range(2):
        watch.at(before + 21 * DAY + hours * HOUR, days=14)
    n, in_days = watch.count()
    assert n == in_days > 3 * first


def test_a_clock_that_was_ahead_for_a_while_makes_no_hour_count_twice_and_none_wait_for_long(watch: Watch) -> None:
    now = DECIDED + 2 * DAY + 5 * HOUR
    for real, ahead in ((now, timedelta()), (now, 3650 * DAY), (now + HOUR, timedelta()), (now + DAY, timedelta())):
        watch.at(real + ahead, bars=watch.bars.filter(pl.col("ts") + HOUR <= real), days=14)
    before = watch.count()
    watch.at(now + DAY + HOUR, days=14)
    n, in_days = watch.count()
    assert n == in_days == before[0] + 1


def test_a_split_of_the_prices_makes_no_outcome_of_two_series(watch: Watch) -> None:
    now = DECIDED + 2 * DAY + 5 * HOUR
    watch.at(now)
    doubled = watch.bars.with_columns(pl.col("open", "high", "low", "close") * 2)
    for days in (1, 2):
        watch.at(now + days * DAY, bars=doubled)
    with watch.run.ledger.transaction() as connection:
        scores = read_scores(connection, "XAGUSD", 1, since=DECIDED)
    assert max(abs(score.y) for score in scores) < 0.3  # not log 2
    across = [score for score in scores if score.origin_ts <= now < score.origin_ts + score.step * HOUR]
    assert across == [] and any(score.origin_ts > now and score.step == 24 for score in scores)


def test_a_champion_without_a_decision_in_the_ledger_is_not_passed_over(watch: Watch, tmp_path: Path) -> None:
    with opened(tmp_path / "another") as ledger:
        watch.run = replace(watch.run, ledger=ledger)
        with pytest.raises(LedgerError, match="the gate's decision on version 1 of XAGUSD, the champion, in"):
            watch.at(DECIDED + DAY)


def test_a_model_of_another_symbol_scores_nothing(watch: Watch) -> None:
    gold = replace(watch.run.symbol, name="XAUUSD")
    watch.run = replace(watch.run, symbol=gold)
    with pytest.raises(ConfigError, match="Expected a model of XAUUSD in version 1 of XAGUSD, got one of XAGUSD; set"):
        watch.at(DECIDED + DAY)


def test_a_model_that_saw_later_bars_than_its_decision_is_live_only_after_them(watch: Watch, tmp_path: Path) -> None:
    seen = DECIDED + 2 * DAY
    forecaster = watch.run.registry.load(watch.run.registry.version("XAGUSD", 1))
    provenance = replace(forecaster.provenance, data_end=seen.isoformat())
    save_forecasters([replace(forecaster, provenance=provenance)], tmp_path / "later")
    register(watch.run.registry, tmp_path / "later")
    watch.run.ledger.record_decision(DecisionRow("XAGUSD", 3, DECIDED, "promote", False, None, (), *SPAN, "ab"))
    watch.promote(3, DECIDED)
    (update,) = watch.at(DECIDED + 3 * DAY)
    assert "none is stored that it has not seen; ingest" in update.findings[0].sentence
    loaded = load_watched(watch.run)[0]
    assert find_start(watch.run, loaded) == seen


def test_a_store_that_begins_after_the_gates_hours_leaves_only_the_drift_unknown(watch: Watch) -> None:
    (update,) = watch.at(DECIDED + 9 * DAY, bars=watch.bars.filter(pl.col("ts") >= DECIDED))
    assert update.forecasts and {score.volatility for score in update.scores} == set(TERCILES)
    (finding,) = update.findings
    assert finding.health is Health.UNKNOWN and "2014-04-01 00:00 to 2014-07-07 00:00 UTC, none" in finding.sentence


def test_a_version_decided_on_before_the_retention_scores_no_hour_whose_outcomes_are_gone(watch: Watch) -> None:
    now = DECIDED + 40 * DAY
    (update,) = watch.at(now, days=14)
    assert min(score.origin_ts for score in update.scores) >= now - 14 * DAY


def test_each_of_two_models_of_a_symbol_has_its_own_finding_of_the_regime(watch: Watch) -> None:
    regime = make_settings(compose("monitor", [])).regime
    (champion,) = load_watched(watch.run)
    found = [check_market(replace(watch.run, name=name), champion, regime) for name in ("XAGUSD", "second")]
    assert [each.subject for each in found] == ["XAGUSD", "second"]


def test_a_reference_made_of_too_few_hours_is_made_again_and_costs_no_evidence(watch: Watch) -> None:
    def drift(days: int, *overrides: str, bars: pl.DataFrame | None = None) -> Finding:
        (update,) = watch.at(DECIDED + days * DAY, *overrides, bars=bars)
        return update.findings[0]

    late = watch.bars.filter(pl.col("ts") >= DECIDED - 14 * DAY)
    few = drift(1, bars=late)
    assert few.health is Health.UNKNOWN and "Expected a gate's record with 500 known targets" in few.sentence
    assert "in 23 hours: the loss beside har's is no higher than in the gate's record of 1,556" in drift(2).sentence
    assert "5000 known targets" in drift(3, "drift.min_origins=5000").sentence
    drift(4)
    assert watch.count()[0] == 46
    stored, settings = StoredRows([], [], {REFERENCE: {"drift": {"n": 1_556}}}), make_settings(compose("monitor", []))
    assert find_whole(stored, {"horizons": {"1": {"n": 1_556}}}, settings.drift)
    assert find_whole(stored, {"horizons": {"1": {"n": 1_557}}}, settings.drift) is None
    (champion,) = load_watched(watch.run)
    more = replace(champion.forecaster, scores={"horizons": {"1": {"n": 1_557}}})
    for bars in (late, watch.bars.filter(pl.col("ts") >= DECIDED)):  # too few of the gate's hours, and none
        run = replace(watch.run, hourly_bars=bars)
        (update,) = watch_versions(run, [replace(champion, forecaster=more)], settings)
        assert "gate's record of 1,556 hours" in update.findings[0].sentence


@pytest.mark.slow
def test_a_closure_of_ten_days_costs_no_score(empty: Path, tmp_path: Path) -> None:
    """Tokyo closes from April 27 to May 6, 2019; 24 of its hours are more than three days."""
    tokyo = Session(calendar="JPX", zone="Asia/Tokyo")
    start, decided, end = (datetime(2019, *day, tzinfo=UTC) for day in ((1, 7), (4, 15), (5, 11)))
    bars = random_hours(tokyo, start - 100 * DAY, end, missing=0)
    register_two(tmp_path, empty, bars, tokyo, (start, decided))
    with watching(tmp_path, bars, tokyo) as watch:
        for day in sorted({ts.date() for ts in bars["ts"].to_list() if ts >= decided + 9 * DAY}):
            watch.at(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
        with watch.run.ledger.transaction() as connection:
            scores = read_scores(connection, "XAGUSD", 1, since=decided)
    hours = bars.filter(pl.col("ts") >= decided)
    for step in (1, 6, 24):
        assert len([score for score in scores if score.step == step]) == len(hours) - step


def serve(row: HourlyForecast, at: datetime, request_id: str) -> ForecastRow:
    """What a service answers with from the bars of a forecast."""
    price_HQ = row.last_close * np.exp(row.q_HQ.astype(np.float64))
    columns = [price_HQ[:, row.levels.index(level)].tolist() for level in PATH_LEVELS]
    path = ServedPath(tuple(ts.replace(tzinfo=UTC) for ts in row.target_ts_H.tolist()), *map(tuple, columns))
    key = request_id, "champion", at, "XAGUSD", "XAGUSD", row.version, row.origin_ts
    return ForecastRow(*key, row.last_close, path, (), 2.0, row.input_sha256)


def test_a_request_from_bars_that_were_revised_is_no_skew_and_one_from_other_bars_is(
    watch: Watch, tmp_path: Path
) -> None:
    night = DECIDED + 2 * DAY
    watch.at(night + SOON)
    is_revised = pl.col("ts") == night - 10 * HOUR
    revised = watch.bars.with_columns(close=pl.when(is_revised).then(pl.col("low")).otherwise("close"))
    watch.at(night + 50 * MINUTE, bars=revised)
    forecaster = watch.run.registry.load(watch.run.registry.version("XAGUSD", 1))

    def ask(bars: pl.DataFrame, at: datetime) -> Finding:
        run = replace(watch.run, hourly_bars=bars.filter(pl.col("ts") < night))
        (row,) = forecast_hours(run, 1, forecaster, Span(night, None))
        watch.run.ledger.record_forecasts([serve(row, at, f"{at:%H:%M}")])
        return check_skew(watch.run, BarStore(tmp_path / "hours", HOURLY_SCHEMA))[0]  # no revision is kept

    with watch.run.ledger.transaction() as connection:  # the clock was ahead when requests were checked
        put_states(connection, [MonitorState("XAGUSD", 0, SERVED, night, {"until": "2030-01-01T00:00:00+00:00"})])
    assert ask(watch.bars, night + 10 * MINUTE).health is Health.GOOD
    found = ask(revised, night + 40 * MINUTE)
    assert (found.health, found.sentence[:18]) == (Health.GOOD, "2 served forecasts")
    other = watch.bars.with_columns(close=pl.when(is_revised).then(pl.col("high")).otherwise("close"))
    found = ask(other, night + 45 * MINUTE)
    assert found.health is Health.BAD
    assert "1 had other bars than the store, the last at 2014-07-09 00:45 UTC (request 00:45)" in found.sentence


def test_a_request_of_hours_that_never_come_is_waited_for_only_as_long_as_a_bar_may_be_late(
    watch: Watch, tmp_path: Path
) -> None:
    night, until = DECIDED + 2 * DAY, []
    watch.at(night)
    forecaster = watch.run.registry.load(watch.run.registry.version("XAGUSD", 1))
    (row,) = forecast_hours(watch.run, 1, forecaster, Span(night, None))
    watch.run.ledger.record_forecasts([serve(replace(row, origin_ts=night + 3650 * DAY), night, "far")])
    for days in (7, 9):
        run = replace(watch.run, now=night + days * DAY)
        state = check_skew(run, BarStore(tmp_path / "hours", HOURLY_SCHEMA))[1]
        until.append(state.state["until"])
        with run.ledger.transaction() as connection:
            put_states(connection, [state])
    assert until == [night.isoformat(), (night + 9 * DAY).isoformat()]


def test_what_a_version_without_an_alias_served_is_compared_too(watch: Watch, tmp_path: Path) -> None:
    night, store = DECIDED + 2 * DAY, BarStore(tmp_path / "hours", HOURLY_SCHEMA)
    watch.at(night + SOON)
    forecaster = watch.run.registry.load(watch.run.registry.version("XAGUSD", 2))
    (row,) = forecast_hours(watch.run, 2, forecaster, Span(night, None))
    lacking = replace(row, input_sha256="of bars that lacked an hour then")
    watch.run.ledger.record_forecasts([serve(row, night + MINUTE, "good"), serve(lacking, night, "early")])
    found = check_skew(watch.run, store)[0]
    assert found.health is Health.GOOD and "1 more could not be checked" in found.sentence
    far = serve(replace(row, last_close=1.2 * row.last_close), night + MINUTE, "far")
    gone = replace(far, version=9, request_id="gone")
    watch.run.ledger.record_forecasts([far, gone, replace(far, request_id="probe-1")])
    found = check_skew(watch.run, store)[0]
    assert found.health is Health.BAD
    assert "Of 2 served" in found.sentence and "request far). 2 more could not be checked" in found.sentence
