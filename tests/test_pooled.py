"""One network over several symbols, each with a calendar and statistics of its own."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import mistake, run, succeed
from models import make_data, random_network, symbol_bars
from processes import wait_for
from serving import Server, running
from test_configs import compose, without_hydra

from lstm_ts import http_schema
from lstm_ts.errors import ArtifactError, NotEnoughBars
from lstm_ts.evaluate import score
from lstm_ts.market.session import Session
from lstm_ts.model.adoption import choose_forecaster
from lstm_ts.model.artifact import load_forecaster, load_forecasters, save_forecasters
from lstm_ts.model.baselines import BASELINES
from lstm_ts.model.datamodule import BarsDataModule, BatchOrder, Split
from lstm_ts.model.evaluation import Span, describe_record, evaluate
from lstm_ts.model.extra_baselines import ExtraBaselines
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.location import weigh_location
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.windows import WindowSpec
from lstm_ts.training.gate_inputs import choose_names

SPEC = WindowSpec(tsteps=24, horizon=4, levels=(0.1, 0.25, 0.5, 0.75, 0.9), max_missing=6)
SPLIT = Split(valid_from="2014-04-01", test_from="2014-05-01", test_until=None)
VALID_FROM = datetime(2014, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def gold_bars(hourly_bars: pl.DataFrame) -> pl.DataFrame:
    """Sixty times as dear, half as volatile, from a month later on, in the hours of another calendar."""
    prices = [(60 * pl.col(name).sqrt()).alias(name) for name in ("open", "high", "low", "close")]
    first = hourly_bars["ts"][0] + timedelta(days=30)
    return hourly_bars.with_columns(prices).filter(pl.col("ts") >= first, pl.col("ts").dt.hour() != 3)


@pytest.fixture(scope="module")
def spot() -> Session:
    return Session(calendar="SpotFX", zone="America/New_York")


@pytest.fixture(scope="module")
def pooled(hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session, spot: Session) -> BarsDataModule:
    return pool(hourly_bars, gold_bars, silver, spot)


def pool(silver_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session, spot: Session) -> BarsDataModule:
    bars = symbol_bars(silver_bars, silver), symbol_bars(gold_bars, spot, "XAUUSD")
    data = make_data(*bars, spec=SPEC, split=SPLIT)
    data.setup()
    return data


def forecasters_of(data: BarsDataModule) -> list[Forecaster]:
    network = random_network(data, LSTMConfig(hidden=4, layers=1, decoder=4, dropout=0.0))
    until = "2014-04-01T00:00:00+00:00"
    provenances = [
        Provenance(each.name, "test hours", "", until, "ab", until, 7, "", "c0ffee", {}, {}) for each in data.symbols
    ]
    return [
        Forecaster(network, each.scaler, each.reference, SPEC, each.bars.symbol.session, provenance, {})
        for each, provenance in zip(data.symbols, provenances, strict=True)
    ]


def test_each_symbol_has_the_windows_and_statistics_that_it_has_alone(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session, spot: Session
) -> None:
    first = 0
    for bars in (symbol_bars(hourly_bars, silver), symbol_bars(gold_bars, spot, "XAUUSD")):
        alone = make_data(bars, spec=SPEC, split=SPLIT)
        alone.setup()
        rows = slice(first, first + len(alone.train_windows))
        for ours, theirs in zip(pooled.train_windows[rows], alone.train_windows[:], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        first = rows.stop
    assert first == len(pooled.train_windows)
    assert len(pooled.valid_windows) == sum(len(each.valid_origins.rows_N) for each in pooled.symbols)


@pytest.mark.parametrize("changed", [0, 1])
def test_later_bars_of_one_symbol_change_nothing_of_the_other_and_no_training_window(
    hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session, spot: Session, changed: int
) -> None:
    both = [hourly_bars, gold_bars]
    spoiled = [
        bars.with_columns(pl.when(pl.col("ts") >= VALID_FROM).then(1e9).otherwise(pl.col("close")).alias("close"))
        if each == changed
        else bars
        for each, bars in enumerate(both)
    ]
    before, after = pool(*both, silver, spot), pool(*spoiled, silver, spot)
    for ours, theirs in zip(before.train_windows[:], after.train_windows[:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(before.start_HQ, after.start_HQ)
    other = 1 - changed
    whole, same = (forecasters_of(data)[other].forecast(both[other]).q_HQ for data in (before, after))
    np.testing.assert_array_equal(whole, same)


def test_one_folder_forecasts_each_of_its_symbols_as_before_it_was_saved(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, tmp_path: Path
) -> None:
    first, second = forecasters_of(pooled)
    saved = [first, replace(second, location_weight=0.25)]
    save_forecasters(saved, tmp_path / "model")
    loaded = load_forecasters(tmp_path / "model")
    assert [each.location_weight for each in loaded.values()] == [1.0, 0.25]
    assert list(loaded) == ["XAGUSD", "XAUUSD"]
    for forecaster, bars in zip(saved, (hourly_bars, gold_bars), strict=True):
        name = forecaster.provenance.symbol
        np.testing.assert_array_equal(loaded[name].forecast(bars).q_HQ, forecaster.forecast(bars).q_HQ)
    assert load_forecaster(tmp_path / "model", "XAUUSD").session.calendar == "SpotFX"
    with pytest.raises(ArtifactError, match="Expected a model of symbol=EURUSD, got one of XAGUSD, XAUUSD"):
        load_forecaster(tmp_path / "model", "EURUSD")


def test_what_a_location_is_worth_is_told_by_each_symbols_own_validation_hours(
    hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session, spot: Session
) -> None:
    data = pool(hourly_bars, gold_bars, silver, spot)
    network = forecasters_of(data)[0].network
    for each, sign in zip(data.symbols, (1.0, -1.0), strict=True):
        windows, noise_N1 = each.valid_windows, np.random.default_rng(0).normal(size=(len(each.valid_windows), 1))
        middle = SPEC.levels.index(0.5)
        windows.z_GH[windows.origin_N, :1] = sign * network.quantiles(windows)[:, :1, middle] + 0.1 * noise_N1
    silvers, golds = (weigh_location(network, each.valid_windows, SPEC.levels) for each in data.symbols)
    assert silvers > 0.5 and golds == 0.0


def test_the_location_of_a_symbol_that_is_not_learnt_weighs_as_the_least_where_no_later_hours_tell(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    first, second = forecasters_of(pooled)
    known = {"XAGUSD": first, "XAUUSD": replace(second, location_weight=0.25)}
    other = symbol_bars(hourly_bars, silver, "UKOIL")
    assert choose_forecaster(known, other, until=VALID_FROM).location_weight == 0.25  # trained until then
    trained_until = "2014-01-10T00:00:00+00:00"
    early = {n: replace(f, provenance=replace(f.provenance, trained_until=trained_until)) for n, f in known.items()}
    adopted = choose_forecaster(early, other, until=VALID_FROM)
    assert adopted.location_weight == 0.0  # the network is not trained: its medians are worth nothing


def test_a_symbol_that_is_not_learnt_is_scored_in_sample_where_the_network_has_learnt_later_hours(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    known = {each.provenance.symbol: each for each in forecasters_of(pooled)}
    other, until = symbol_bars(hourly_bars, silver, "UKOIL"), datetime(2014, 3, 15, tzinfo=UTC)
    adopted = choose_forecaster(known, other, until=until)
    span, extra = Span.given(until, VALID_FROM, adopted), ExtraBaselines((), False, horizon=4)
    score(adopted, hourly_bars, span, source="test hours", extra=extra, folder=tmp_path, model=tmp_path)
    (note,) = json.loads((tmp_path / "scores.json").read_text())["notes"]
    assert note.startswith("In sample: the span begins before 2014-04-01")
    report = (tmp_path / "report.html").read_text()
    assert f"<p>{note}</p>" in report and "<dt>Trained on</dt><dd>test hours, to 2014-04-01; test hours" in report
    assert "<dt>Statistics of</dt><dd>test hours, 2014-01-" in report and "to 2014-03-15</dd>" in report


def test_scores_of_a_short_training_or_beyond_the_table_of_announcements_say_so(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame
) -> None:
    known = forecasters_of(pooled)[0]
    record = evaluate(known, hourly_bars, Span(VALID_FROM, None))
    assert describe_record(known, record) == []
    short = replace(known, provenance=replace(known.provenance, data_start="2014-03-01T00:00:00+00:00"))
    old = replace(record, origin_ts_N=record.origin_ts_N - np.timedelta64(3650, "D"))
    told = describe_record(short, old)
    assert [each[:14] for each in told] == ["In sample: the", "Short training", "Note: announce"]


def test_a_symbol_with_too_few_bars_is_named(
    hourly_bars: pl.DataFrame, gold_bars: pl.DataFrame, silver: Session
) -> None:
    late = gold_bars.filter(pl.col("ts") >= VALID_FROM)
    with pytest.raises(NotEnoughBars, match="for one training window of XAUUSD, got none before"):
        pool(hourly_bars, late, silver, silver)


def test_a_symbol_that_is_not_learnt_is_told_from_when_on_its_statistics_have_enough_windows(
    pooled: BarsDataModule, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    known = {each.provenance.symbol: each for each in forecasters_of(pooled)}
    other, first = symbol_bars(hourly_bars, silver, "UKOIL"), hourly_bars["ts"][0]
    with pytest.raises(NotEnoughBars, match=r"got 0; move the start of the span to .* or later, or") as refused:
        choose_forecaster(known, other, until=first)
    told = re.search(r"span to (\S+) or", str(refused.value))
    assert told
    start = datetime.fromisoformat(told[1]).replace(tzinfo=UTC)
    assert choose_forecaster(known, other, until=start).learnt
    with pytest.raises(NotEnoughBars, match=r"got 9\d\d; "):
        choose_forecaster(known, other, until=start - timedelta(days=3))


def test_batches_are_mixed_and_balanced_as_configured() -> None:
    def drawn(balance: float) -> list[int]:
        order = BatchOrder([900, 100], batch_size=50, shuffle=True, seed=0, balance=balance)
        batches = list(order)
        assert len(batches) == 20
        return [int((rows_B >= 900).sum()) for rows_B in batches]

    assert sum(drawn(0.0)) == 100
    assert sum(drawn(0.5)) == 250  # 100 ** 0.5 to 900 ** 0.5
    assert sum(drawn(1.0)) == 500
    assert min(drawn(1.0)) > 10
    rows = torch.cat(list(BatchOrder([900, 100], batch_size=50, shuffle=True, seed=0, balance=1.0)))
    assert torch.bincount(rows[rows >= 900] - 900).tolist() == [5] * 100


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["symbol=XAUUSD"], ["XAUUSD"]),
        (["symbols=[XAUUSD]"], ["XAUUSD"]),
        (["symbols=[XAUUSD]", "name=mine"], ["mine"]),
        (["symbols=[XAGUSD,XAUUSD]"], ["XAGUSD", "XAUUSD"]),
    ],
)
def test_models_are_named_as_their_symbols_unless_one_is_given_a_name(options: list[str], names: list[str]) -> None:
    assert choose_names(without_hydra(compose("retrain", *options))) == names


GEAR = ("net.hidden=4", "net.decoder=4", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
SPECS = ("tsteps=12", "horizon=6", "spec.max_missing=6")
BOTH = "symbols=[XAGUSD,EURUSD]"


@pytest.fixture(scope="module")
def markets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six months of silver and of the euro, four of the New Zealand dollar, two of gold."""
    folder = tmp_path_factory.mktemp("markets")
    for seed, (symbol, start) in enumerate({"XAGUSD": "09", "EURUSD": "09", "NZDUSD": "11", "XAUUSD": "12"}.items()):
        span = (f"source.start=2025-{start}-01", "source.end=2026-02-01", f"source.seed={seed}")
        for command, options in (("ingest", span), ("process", ())):
            succeed(command, folder, f"symbol={symbol}", *options)
    return folder


@pytest.mark.slow
def test_a_pooled_model_is_trained_scored_and_asked_for_each_of_its_symbols_and_for_another(markets: Path) -> None:
    borders = ("split.valid_from=2025-12-01", "split.test_from=2026-01-01")
    model = succeed("train", markets, BOTH, *GEAR, *SPECS, *borders)[-1]
    for symbol in ("XAGUSD", "EURUSD"):
        scores_json = Path(succeed("evaluate", markets, f"model={model}", f"symbol={symbol}")[-1])
        scores = json.loads(scores_json.read_text())
        assert scores["symbol"] == symbol
        assert set(scores["horizons"]["1"]["skill"]) == set(BASELINES)
        folder = Path(model).parent / "scores" / ("" if symbol == "XAGUSD" else symbol)
        assert json.loads((folder / "scores.json").read_text())["horizons"] == scores["horizons"]
        reply = json.loads("\n".join(succeed("predict", markets, f"model={model}", f"symbol={symbol}", "format=json")))
        assert reply["symbol"] == symbol and not any("was trained on" in flag for flag in reply["flags"])

    kiwi = (f"model={model}", "symbol=NZDUSD")
    reply = json.loads("\n".join(succeed("predict", markets, *kiwi, "format=json")))
    assert reply["flags"][0].startswith(
        "the network was trained on XAGUSD, EURUSD, not on NZDUSD, whose own bars before"
    )
    printed = succeed("evaluate", markets, *kiwi, "span.start=2026-01-15")
    assert printed[0].startswith("Note: the network was trained on XAGUSD, EURUSD, not on NZDUSD")
    short = mistake(run("predict", markets, f"model={model}", "symbol=XAUUSD", "min_minutes_share=0.25"))
    assert "Expected at least 1000 windows of XAUUSD before" in short
    alone = succeed("train", markets, *GEAR, *SPECS, *borders, f"warm_start={model}", "symbol=EURUSD")[-1]
    assert json.loads((Path(alone) / "manifest.json").read_text())["symbols"].keys() == {"EURUSD"}
    other = mistake(run("train", markets, *GEAR, *SPECS, *borders, f"warm_start={model}", "net.hidden=5"))
    assert "Expected warm_start with a model of {" in other
    early = ("split.valid_from=2025-11-15", "split.test_from=2025-12-15", f"warm_start={model}")
    assert "Expected warm_start with a model trained before the validation from" in mistake(
        run("train", markets, *GEAR, *SPECS, *early)
    )
    refused = mistake(run("predict", markets, f"model={alone}", "symbol=XAGUSD"))
    assert "Expected a model of symbol=XAGUSD, got one of EURUSD; set symbol to that" in refused
    missing = mistake(run("train", markets, "symbols=[XAGUSD,UKOIL]", *GEAR, *SPECS, *borders))
    assert "processed/UKOIL" in missing and "got an empty store" in missing
    late = mistake(run("train", markets, "symbols=[XAGUSD,XAUUSD]", *GEAR, *SPECS, *borders))
    assert "for one training window of XAUUSD, got none before 2025-12-01" in late


@pytest.mark.slow
def test_a_pooled_model_is_judged_registered_and_served_for_each_of_its_symbols(markets: Path, tmp_path: Path) -> None:
    data = (f"paths.data={markets}/data", f"registry.uri=sqlite:///{tmp_path}/mlflow.db")
    where = (*data, f"registry.ledger=sqlite:///{tmp_path}/ledger.db")
    request = (BOTH, *GEAR, *SPECS, "retrain.valid=4w", "retrain.holdout=4w", "gate.min_origins=50")
    printed = succeed("retrain", tmp_path, *where, *request)
    for symbol in ("XAGUSD", "EURUSD"):
        assert any(line.startswith(f"Registered as version 1 of {symbol}") for line in printed)
        succeed("registry", tmp_path, *where, f"symbol={symbol}", "action=promote", "version=1", "reason=the first")
    again = succeed("retrain", tmp_path, *where, *request)
    assert [line.split(":")[0] for line in again[:2]] == [
        f"Nothing new since version 1 of {s}" for s in ("XAGUSD", "EURUSD")
    ]
    with running(Server(tmp_path, *data[:1], "symbols=[XAGUSD,EURUSD]")) as server:
        wait_for(lambda: server.health().ready)
        for symbol in ("XAGUSD", "EURUSD"):
            response = server.client.get("/forecast", params={"symbol": symbol}).raise_for_status()
            served = http_schema.ForecastReply.model_validate_json(response.content)
            exported = tmp_path / symbol
            succeed("registry", tmp_path, *where, f"symbol={symbol}", "action=export", f"to={exported}")
            asked = ("predict", tmp_path, *data[:1], f"model={exported}", f"symbol={symbol}", "format=json")
            offline = json.loads("\n".join(succeed(*asked)))
            assert served.season_day is not None and served.season_day.isoformat() == offline["season_day"]
            prices = [step.price for step in served.path]
            assert prices == pytest.approx([step["price"] for step in offline["path"]], rel=1e-6)
    named = mistake(run("retrain", tmp_path, *where, *request, "name=mine"))
    assert "Expected no name with several symbols" in named
