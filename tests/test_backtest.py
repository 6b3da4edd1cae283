"""Walking forward as a whole, in processes of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from commands import mistake, run_process, succeed, succeed_process
from conftest import random_hours
from models import symbol_bars
from omegaconf import DictConfig
from processes import child, output, python, wait_for
from test_cli import TINY
from test_configs import compose, without_hydra

from lstm_ts.backtest import plan_jobs, plan_trainings
from lstm_ts.errors import ConfigError, NotEnoughBars
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.model.folds import FoldRow, describe_warm_start, format_folds
from lstm_ts.store.bar_store import BarStore

pytestmark = pytest.mark.timeout(600)  # a walk trains seven models, in processes that import all anew
START = datetime(2014, 1, 6, tzinfo=UTC)
WALK = (*TINY, "walk.start=2014-04-01", "walk.every=1mo", "walk.valid=2w")


def configure(folder: Path, *changes: str) -> DictConfig:
    return without_hydra(compose("backtest", *WALK, f"paths.outputs={folder}", *changes))


@pytest.fixture(scope="module")
def bars(silver: Session) -> pl.DataFrame:
    return random_hours(silver, START, START + timedelta(weeks=26))


@pytest.fixture(scope="module")
def stored(bars: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("synthetic random hours") as staging:
        staging.add(bars)
    return folder


@pytest.fixture(scope="module")
def walked(stored: Path) -> list[str]:
    """Lines of stdout."""
    return succeed("backtest", stored, *WALK, "hydra/launcher=basic")


def trained(folder: Path) -> dict[Path, float]:
    return {path: path.stat().st_mtime for path in (folder / "outputs/backtest/folds").glob("*/fold.json")}


@pytest.mark.slow
def test_every_origin_of_the_walk_is_forecast_once_by_a_model_that_ended_before_it(
    stored: Path, walked: list[str]
) -> None:
    scores_json = Path(walked[-1])
    scores = json.loads(scores_json.read_text())
    assert list(scores["by_fold"]) == ["2014-04-01", "2014-05-01", "2014-06-01", "2014-07-01"]
    assert sum(fold["1"]["n"] for fold in scores["by_fold"].values()) == scores["horizons"]["1"]["n"]
    forecasts = pl.read_parquet(scores_json.with_name("forecasts.parquet")).filter(pl.col("step") == 1)
    assert forecasts["origin_ts"].is_sorted()
    assert forecasts["origin_ts"].n_unique() == forecasts.height
    assert forecasts["origin_ts"][0] >= datetime(2014, 4, 1, tzinfo=UTC)
    report = scores_json.with_name("report.html").read_text()
    assert "By fold" in report
    assert "<dt>Version</dt><dd>none: each of 4 folds" in report and "<dt>Seed</dt><dd>0</dd>" in report
    ends = [
        json.loads(path.read_text())["symbols"]["XAGUSD"]["provenance"]["data_end"]
        for path in stored.rglob("folds/*/model/manifest.json")
    ]
    assert sorted(set(ends)) == [f"2014-{day}T00:00:00+00:00" for day in ("03-31", "04-30", "05-31", "06-30")]


@pytest.mark.slow
def test_a_warm_start_is_validated_on_hours_that_its_weights_have_not_seen(stored: Path, tmp_path: Path) -> None:
    longer = ("walk.valid=6w", "walk.end=2014-06-01", "starts=[previous]", "optimisation.final_epochs=1")
    succeed("backtest", tmp_path, *WALK, *longer, f"paths.data={stored}/data", "hydra/launcher=basic")
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("model/manifest.json")]
    first, second = sorted(
        (each["symbols"]["XAGUSD"]["provenance"] for each in manifests), key=lambda its: str(its["data_end"])
    )
    assert first["trained_until"] == first["data_end"] == second["config"]["split"]["valid_from"]


@pytest.mark.slow
def test_the_table_shows_both_starts_and_the_paired_test_between_them(walked: list[str]) -> None:
    assert sum(line.startswith("2014-") for line in walked) == 7
    assert any(line.startswith("from_previous") for line in walked)
    assert any(line.startswith("From scratch: ") and "s a fold" in line for line in walked)
    assert any("of 3 folds" in line for line in walked)


@pytest.mark.slow
def test_a_finished_fold_is_not_trained_again(stored: Path, walked: list[str]) -> None:
    before = trained(stored)
    assert len(before) == 7, "the first fold has no fold before it, so both starts share its model"
    again = succeed("backtest", stored, *WALK, "hydra/launcher=basic")
    assert trained(stored) == before
    assert again[:-1] == walked[:-1]


@pytest.mark.slow
def test_a_killed_walk_goes_on_where_it_was(stored: Path, walked: list[str], tmp_path: Path) -> None:
    paths = (f"paths.data={stored}/data", f"paths.outputs={tmp_path}/outputs")
    command = [sys.executable, "-m", "lstm_ts.backtest", *WALK, *paths, "hydra/launcher=basic"]
    with child(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(trained(tmp_path)) >= 2, process=process)
    before = trained(tmp_path)
    assert 2 <= len(before) < 7
    again = succeed("backtest", tmp_path, *WALK, f"paths.data={stored}/data", "hydra/launcher=basic")
    assert before.items() <= trained(tmp_path).items()
    assert table(again) == table(walked)


def table(lines: list[str]) -> list[str]:
    """The scores, without what the folds cost."""
    first, last = (
        next(i for i, line in enumerate(lines) if line.startswith(words)) for words in ("XAGUSD", "One hour")
    )
    return lines[first:last]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [("hydra/launcher=joblib",), ("hydra/launcher=ray", "+hydra.launcher.ray.init.include_dashboard=false")],
    ids=["joblib", "ray"],
)
def test_other_processes_give_the_same_folds(
    stored: Path, walked: list[str], tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    lines = succeed_process("backtest", tmp_path, *WALK, *launcher, f"paths.data={stored}/data")
    assert table(lines) == table(walked)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Ray on two raylets of one processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def busy_workers() -> list[psutil.Process]:
    """Of the cluster that this process has started."""
    busy = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            busy += [each] * each.name().startswith("ray::_run_job")
    return busy


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:::ray")
def test_a_walk_on_a_cluster_survives_a_worker_and_a_raylet_and_goes_on_where_it_was(
    stored: Path, walked: list[str], cluster: Any, tmp_path: Path
) -> None:
    ray = ("hydra/launcher=ray", f"+hydra.launcher.ray.init.address={cluster.address}")
    command = [*WALK, *ray, "+hydra.launcher.ray.init.object_store_memory=null", f"paths.data={stored}/data"]
    line = python("-m", "lstm_ts.backtest", *command, f"paths.outputs={tmp_path}/outputs")
    with child(line, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: trained(tmp_path), 300, process=process)
    before = trained(tmp_path)
    assert 1 <= len(before) < 7, "it was killed on its way"
    wait_for(lambda: not busy_workers())
    with child(line, stdout=subprocess.PIPE) as process:
        wait_for(lambda: len(busy_workers()) == 2, 300, process=process)
        busy_workers()[0].kill()
        wait_for(lambda: len(trained(tmp_path)) > len(before), 300, process=process)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        out, _ = output(process, 300)
    assert process.returncode == 0
    assert before.items() <= trained(tmp_path).items()
    assert table(out.splitlines()) == table(walked)


def test_bars_after_what_a_fold_may_see_do_not_decide_its_model(
    bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    cfg = configure(tmp_path)
    late = pl.col("ts") >= datetime(2014, 4, 30, tzinfo=UTC)
    changed = bars.with_columns(
        pl.when(late).then(1e9).otherwise(pl.col(price)).alias(price) for price in ("open", "high", "low", "close")
    )
    plans, others = (plan_trainings(cfg, [symbol_bars(each, silver)]) for each in (bars, changed))
    for start in ("scratch", "previous"):
        same = [ours.folder == theirs.folder for ours, theirs in zip(plans[start], others[start], strict=True)]
        assert same == [True, True, False, False]


@pytest.mark.slow
def test_a_fold_that_ends_otherwise_or_learns_otherwise_is_another(
    bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    def first(*changes: str) -> Path:
        cfg = configure(tmp_path, *changes)
        return plan_trainings(cfg, [symbol_bars(bars, silver)])["scratch"][0].folder

    changes = (
        "seed=1",
        "net.hidden=9",
        "walk.valid=3w",
        "walk.train=2mo",
        "walk.embargo_hours=48",
        "optimisation.lr=0.01",
    )
    assert len({first(), *map(first, changes)}) == 1 + len(changes)
    assert first("lightgbm_steps=[1]") == first()


def test_a_chain_of_warm_starts_is_one_job(bars: pl.DataFrame, silver: Session, tmp_path: Path) -> None:
    plans = plan_trainings(configure(tmp_path), [symbol_bars(bars, silver)])
    jobs = [["starts=[previous]", "folds=[0, 1, 2, 3]"], *(["starts=[scratch]", f"folds=[{k}]"] for k in (3, 2, 1, 0))]
    assert plan_jobs(plans) == jobs
    plans["scratch"][0].folder.mkdir(parents=True)
    assert plan_jobs(plans) == [["starts=[previous]", "folds=[1, 2, 3]"], *jobs[1:-1]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["starts=[champion]"], "Expected starts among"),
        (["starts=[]"], "Expected starts among"),
        (["scaler=none"], "scaler=refit or previous"),
        (["starts=scratch"], "Expected starts among .* got scratch"),
        (["folds=0"], "Expected folds among"),
        (["walk.start=2014-05-03", "walk.end=2014-05-04"], "Expected hours to score from walk.start=2014-05-03"),
        (["walk.start=null"], "a fraction of the bars' span, got none"),
        (["walk.valid=0d"], "change walk.valid"),
        (["folds=[7]"], r"folds among \[0, 1, 2, 3\], got \[7\]"),
        (["walk.valid=1y"], "change walk.valid"),
    ],
)
def test_a_plan_that_cannot_be_is_named(
    bars: pl.DataFrame, silver: Session, tmp_path: Path, changes: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_trainings(configure(tmp_path, *changes), [symbol_bars(bars, silver)])


@pytest.mark.parametrize(
    ("column", "purpose", "span"),
    [("first", "train on", "2014-01-.* to 2014-03-1"), ("last", "score", "2014-06-01 .* to 2014-07-01")],
)
def test_a_symbol_without_the_bars_of_a_fold_is_named_before_any_training(
    bars: pl.DataFrame, silver: Session, tmp_path: Path, column: str, purpose: str, span: str
) -> None:
    inside = pl.col("ts") >= datetime(2014, 4, 20, tzinfo=UTC)
    if column == "last":
        inside = pl.col("ts") < datetime(2014, 5, 20, tzinfo=UTC)
    both = [symbol_bars(bars, silver), symbol_bars(bars.filter(inside), silver, "NZDUSD")]
    with pytest.raises(NotEnoughBars, match=f"windows of NZDUSD to {purpose} from {span}.*; move walk.start or"):
        plan_trainings(configure(tmp_path), both)
    assert plan_trainings(configure(tmp_path, "starts=[scratch]", f"folds=[{3 * (column == 'first')}]"), both)


@pytest.mark.slow
def test_a_mistake_within_a_job_is_one_sentence(stored: Path, tmp_path: Path) -> None:
    said = mistake(run_process("backtest", tmp_path, *WALK, "trainer.max_epochs=0", f"paths.data={stored}/data"))
    assert said == "Expected at least one epoch to train, got trainer.max_epochs=0"


def fold_row(start: str, fold: str, losses: tuple[float, ...]) -> FoldRow:
    skill, dm_p = {"volatility": 0.01, "from_previous": 0.002}, {"volatility": 0.03, "from_previous": 0.5}
    return FoldRow(fold, start, 100, 7.5, "volatility", skill, dm_p, losses, steps_per_epoch=50, seconds=2.0)


def test_the_steps_to_scratchs_loss_are_counted_by_hand() -> None:
    rows = [
        fold_row("scratch", "a", (1.0, 0.9)),
        fold_row("scratch", "b", (1.0, 0.95, 0.9, 0.8)), fold_row("previous", "b", (0.85, 0.8)),
        fold_row("scratch", "c", (1.0, 0.7)), fold_row("previous", "c", (0.8, 0.7)),
        fold_row("scratch", "d", (1.0, 0.6)), fold_row("previous", "d", (0.8, 0.61)),
    ]  # fmt: skip
    assert "in 2 of 3 folds, in 1 of them within half its steps" in describe_warm_start(rows)
    lines = format_folds(rows[:3]).splitlines()
    expected = "a scratch 100 7.500 +1.0 % +0.2 % 0.030 0.9000 2 of 2 100 2.0"
    assert " ".join(lines[2].split()) == expected
    assert lines[-1] == "From previous: 2 s of training, 2.0 s a fold."
