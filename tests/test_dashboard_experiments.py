"""Runs as they are read, compared and shown in a real browser."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import wandb
from bokeh.models import LogAxis
from browsing import Dashboard, click_at, hidden_at_the_right, open_browser, open_page, shown, violations
from omegaconf import OmegaConf
from playwright.sync_api import Page, expect
from test_configs import compose, without_hydra
from test_report import make_record

from dashboard.experiments.comparison import MOST, comparison_table, curves_legend, loss_curves
from dashboard.experiments.page import files_of
from dashboard.experiments.runs import Run, differing, read_runs, read_scores, values_of
from dashboard.experiments.scatter import Scatter, scores_of
from dashboard.experiments.scoreboard import details, groups, label, listing, matches, score_cells, spans_of
from dashboard.ui.views import LIGHT
from lstm_ts.scoring.scores import compute_scores
from lstm_ts.scoring.wandb_log import record_address

pytestmark = pytest.mark.slow

BERLIN = ZoneInfo("Europe/Berlin")
STORE = "sqlite:///mlflow.db"
RATES = (1e-4, 1e-2)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sweep of two, as `train` leaves it; test_training.py reads one that has been run."""
    outputs = tmp_path_factory.mktemp("experiments")
    for trial, rate in enumerate(RATES):
        folder = outputs / f"train/2026-01-04/09-30-00/{trial}"
        for name in (".hydra", "scores", "metrics"):
            (folder / name).mkdir(parents=True)
        typed = ["+experiment=quickstart", f"optimisation.lr={rate}", "registry.uri=postgresql://me:s3cret@db/registry"]
        OmegaConf.save(without_hydra(compose("train", *typed)), folder / ".hydra/config.yaml")
        OmegaConf.save(typed, folder / ".hydra/overrides.yaml")
        scores = compute_scores(make_record(n=60 + trial, horizon=6))
        (folder / "scores/scores.json").write_text(json.dumps(scores.to_json()))
        (folder / "metrics/metrics.csv").write_text(f"step,val/loss\n9,nan\n9,1.5\n19,{1 - rate}\n29,1.2\n39,0.")
    return outputs


@pytest.fixture
def runs(outputs: Path) -> list[Run]:
    return read_runs(outputs)


def beside(outputs: Path, run: Run, stamp: str) -> Path:
    """A copy of a run, as one of its own."""
    return shutil.copytree(run.folder, outputs / "train" / stamp)


def test_a_sweeps_trials_are_read_newest_first_with_parameters_and_scores(runs: list[Run]) -> None:
    assert [(run.command, run.trial, run.symbol, run.trouble) for run in runs] == [
        ("train", 1, "XAGUSD", ""),
        ("train", 0, "XAGUSD", ""),
    ]
    assert differing(runs) == ["optimisation.lr"]
    assert [run.config["optimisation.lr"] for run in runs] == [0.01, 0.0001]
    assert list(runs[0].horizons) == ["1", "2", "3", "4", "5", "6"]
    assert [run.loss for run in runs] == [0.99, 0.9999]  # the lowest; nan and a half-written line are none
    assert [len(members) for members in groups(runs, BERLIN).values()] == [2, 2, 2]  # all, the experiment, the sweep


def test_damaged_and_half_written_runs_are_said_and_stop_nobody(runs: list[Run], tmp_path: Path) -> None:
    cut = beside(tmp_path, runs[0], "2026-01-05/10-00-00")
    (cut / "scores/scores.json").unlink()
    half = beside(tmp_path, runs[0], "2026-01-05/11-00-00")
    (half / "scores/scores.json").write_text((half / "scores/scores.json").read_text()[:5000])
    torn = beside(tmp_path, runs[0], "2026-01-05/12-00-00")
    (torn / ".hydra/config.yaml").write_text("net: {hidden: 4\n  lr")
    odd = beside(tmp_path, runs[0], "2026-01-05/12-30-00") / "scores/scores.json"
    odd.write_text(json.dumps(json.loads(odd.read_text()) | {"span": ["<b>2026", "2026"]}))
    (tmp_path / "train/2026-01-05/13-00-00").mkdir()
    (tmp_path / "train/2026-01-05/no run").mkdir()
    found = read_runs(tmp_path)
    damaged = "it is damaged, or of another"
    words = ["Expected .hydra/config.yaml, got none", damaged, "to be YAML", damaged, "is still running"]
    assert all(word in run.trouble for word, run in zip(words, found, strict=True))
    table = listing(found, BERLIN)
    assert all(word in table for word in words)
    assert all("alert" in details(run, found, STORE) for run in found)
    shutil.copy(runs[0].folder / "scores/scores.json", cut / "scores/scores.json")
    assert read_runs(tmp_path)[-1].trouble == ""  # what has changed is read again


def test_a_command_that_was_refused_is_no_run(runs: list[Run], tmp_path: Path) -> None:
    refused = beside(tmp_path, runs[0], "2026-01-05/10-00-00")
    for name in ("scores", "metrics"):
        shutil.rmtree(refused / name)
    (refused / "train.log").write_text("Expected trainer.max_epochs >= 1, got 0")
    assert read_runs(tmp_path) == []
    (refused / "metrics").mkdir()
    assert len(read_runs(tmp_path)) == 1


def test_a_run_tells_where_it_is_tracked(runs: list[Run], tmp_path: Path) -> None:
    settings = wandb.Settings(entity="me", project="lstm_ts", run_id="abc", mode="online")
    online, offline = (beside(tmp_path, runs[0], f"2026-01-0{day}/10-00-00") for day in (6, 5))
    address = wandb.Run(settings=settings)
    record_address(address, online)
    record_address(wandb.Run(settings=settings.model_copy(update={"mode": "offline"})), offline)
    (offline / "wandb/offline-run-20260105_100000-abc").mkdir(parents=True)
    found = read_runs(tmp_path)
    assert found[0].url == address.url
    assert f'href="{address.url}"' in details(found[0], found, STORE)
    assert found[1].url == ""
    assert f"wandb sync {offline}/wandb/offline-run-20260105_100000-abc" in details(found[1], found, STORE)
    (online / "wandb_url.txt").write_text("javascript:alert(1)")
    assert read_runs(tmp_path)[0].url == ""


def test_an_axis_fits_the_values_of_its_parameter(runs: list[Run]) -> None:
    score = scores_of(runs)[0]

    def drawn(*values: str | float | None) -> Scatter:
        changed = [replace(run, config={"it": value}) for run, value in zip(runs, values, strict=True)]
        return Scatter(changed, "it", score, LIGHT, BERLIN, print)

    assert drawn(1e-4, 1e-2).plot.select_one(LogAxis)
    assert not drawn(0.0, 1e-2).plot.select_one(LogAxis)
    assert list(drawn(16, 64).plot.xaxis.ticker.ticks) == [16, 64]
    assert drawn("adam", None).plot.x_range.factors == ["None", "adam"]
    assert values_of({"a": {"b": [1, 2]}, "paths": {"data": "x"}}) == {"a.b": "[1, 2]"}


def test_scores_of_other_spans_and_bars_are_not_drawn_beside_each_other(runs: list[Run], tmp_path: Path) -> None:
    assert list(spans_of(runs).values()) == [runs[0].span]
    path = runs[0].folder / "scores/scores.json"
    told = json.loads(path.read_text())
    for change in ({"symbol": "XAUUSD"}, {"source": "synthetic silver, seed 8"}):
        (tmp_path / "scores.json").write_text(json.dumps(told | change))
        assert read_scores(tmp_path / "scores.json") != (runs[0].horizons, runs[0].span)
    other = replace(runs[1], span="2015-01-01 to 2015-12-31")
    assert spans_of([runs[0], other]) == {f"{each.span} (1 run)": each.span for each in (runs[0], other)}


def test_runs_are_found_by_all_words_of_what_is_told_of_them(runs: list[Run]) -> None:
    newer, older = runs
    assert all(matches(run, "quickstart XAGUSD", BERLIN) for run in runs)
    assert [matches(run, "quickstart lr=0.01", BERLIN) for run in (newer, older)] == [True, False]
    assert matches(older, "", BERLIN)


def test_runs_beside_each_other_tell_what_they_differ_in_and_how_they_went(runs: list[Run]) -> None:
    html = comparison_table(runs, BERLIN)
    assert all(text in html for text in ("optimisation.lr=0.01", "0.9900", "0.9999", runs[0].span))
    assert "<b>" not in comparison_table([replace(runs[0], span="<b>")], BERLIN)
    plot = loss_curves(runs, LIGHT, BERLIN)
    drawn: Any = plot.renderers[1]
    assert drawn.data_source.data["loss"][1:] == [1.5, 0.99, 1.2]
    assert all(label(run, BERLIN) in curves_legend(runs, LIGHT, BERLIN) for run in runs)


def test_a_password_that_was_typed_is_shown_and_found_nowhere(runs: list[Run]) -> None:
    assert "registry.uri=postgresql://***@db/registry" in details(runs[0], runs, STORE)
    assert not matches(runs[0], "s3cret", BERLIN)


def test_the_scores_of_every_symbol_are_offered(runs: list[Run], tmp_path: Path) -> None:
    for folder in ("scores", "scores/XAUUSD", "EURUSD/scores"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "report.html").touch()
    names = files_of(replace(runs[0], folder=tmp_path)).values()
    assert list(names) == ["Report", "Report, EURUSD", "Report, XAUUSD"]


def test_a_retraining_names_the_page_of_its_versions(runs: list[Run]) -> None:
    retrained = replace(runs[0], command="retrain", config={**runs[0].config, "name": "silver"})
    assert 'href="https://mlflow.example/#/models/silver"' in details(retrained, runs, "https://mlflow.example")
    assert f"mlflow ui --backend-store-uri {STORE}" in details(retrained, runs, STORE)
    assert "mlflow" not in details(runs[0], runs, STORE)


def test_scores_of_runs_that_called_every_price_dollars_are_read(
    outputs: Path, runs: list[Run], tmp_path: Path
) -> None:
    old = beside(tmp_path, runs[0], "2026-01-05/09-00-00") / "scores/scores.json"
    old.write_text(old.read_text().replace("mae_price", "mae_usd"))
    (run,) = read_runs(tmp_path)
    assert (run.trouble, run.horizons) == ("", runs[0].horizons)


def test_a_skill_that_rounds_to_nothing_is_no_negative_zero(runs: list[Run]) -> None:
    horizon = runs[0].horizons["1"]
    worse = replace(horizon, skill=horizon.skill | {horizon.best: -4e-4})
    assert "+0.0 %" in score_cells(replace(runs[0], horizons={"1": worse}), ["1"])[1]


def test_runs_of_two_symbols_that_start_together_are_told_apart(runs: list[Run]) -> None:
    gold = replace(runs[0], config={**runs[0].config, "symbol.name": "XAUUSD"})
    assert gold.symbol == "XAUUSD"
    own = values_of({"symbol": {"name": "XAUUSD"}, "symbols": ["${symbol.name}"]})
    other = replace(gold, config={**gold.config, **own, "symbol.session.calendar": "CMEGlobex_Gold"})
    assert differing([other, runs[0]]) == ["symbol.name"]
    pooled = replace(gold, config={**gold.config, "symbols": '["XAGUSD", "XAUUSD"]'})
    assert "symbols=[&quot;XAUUSD&quot;]" in comparison_table([pooled, other], BERLIN)
    old = {key: value for key, value in runs[0].config.items() if not key.startswith("symbol.")}
    assert replace(runs[0], config=old | {"symbol": "EURUSD"}).symbol == "EURUSD"
    assert label(gold, BERLIN) != label(runs[0], BERLIN)
    assert "other runs" not in details(gold, [gold], STORE)


def row_of(page: Page, region: str, text: str) -> str:
    return page.get_by_role("region", name=region).locator("tbody tr", has_text=text).inner_text()


@pytest.mark.browser
def test_runs_appear_and_are_chosen_by_list_or_point(outputs: Path, tmp_path: Path) -> None:
    with open_browser() as browser, shown(Dashboard(tmp_path, "http://127.0.0.1:9")) as dashboard:
        url = f"{dashboard.url}/?page=experiments"
        with open_page(browser, url) as page:
            expect(page.get_by_text("python -m lstm_ts.train +experiment=quickstart")).to_be_visible()
            shutil.copytree(outputs / "train", tmp_path / "train")
            expect(page.get_by_role("region", name="2 runs, newest first").locator("tbody tr")).to_have_count(2)
            newer, older = read_runs(tmp_path)
            listed = page.get_by_role("region", name="2 runs, newest first")
            assert listed.evaluate("each => each.scrollWidth <= each.clientWidth")
            for lower in ("0.9900", "0.9999"):
                listed.get_by_role("button", name="Validation loss").click()
                expect(listed.locator("tbody tr").first).to_contain_text(lower)
            beside = page.get_by_role("region", name="The chosen runs").locator("tbody tr")
            expect(beside).to_have_count(2)
            page.get_by_label("Runs to compare").select_option(label=label(older, BERLIN))
            expect(beside).to_have_count(1)
            failed: list[Exception] = []
            page.on("pageerror", lambda error: failed.append(error))
            page.get_by_label("Filter").press_sequentially("lr=0.01")
            expect(page.get_by_role("region", name="1 run, newest first").locator("tbody tr")).to_have_count(1)
            page.get_by_label("Filter").fill("no run has this")
            expect(page.get_by_text("No run has all of these words")).to_be_visible()
            expect(page.get_by_text("There is nothing to compare yet")).not_to_be_visible()
            expect(page.get_by_text("Its files are in")).to_have_count(0)
            expect(page.get_by_text("Scores as JSON")).not_to_be_visible()
            page.get_by_label("Filter").fill("")
            expect(listed.locator("tbody tr")).to_have_count(2)
            page.get_by_label("Run", exact=True).select_option(label=label(older, BERLIN))
            expect(page.get_by_text(f"Its files are in {older.folder}.")).to_be_visible()
            assert failed == []
            assert f"{older.horizons['1'].pinball_bps:.3f}" in row_of(page, "Pinball loss on the same origins", "model")
            assert "0.0001" in row_of(page, "What runs differ in", "optimisation.lr")
            loss = "Validation loss over har_rolling's on the same hours (lower is better)"
            page.get_by_label("Score", exact=True).select_option(label=loss)
            click_at(page, 0.01, 0.99)
            expect(page.get_by_text(f"Its files are in {newer.folder}.")).to_be_visible()
            with page.expect_download() as download:
                page.get_by_text("Scores as JSON").click()
            assert json.loads(download.value.path().read_text())["n"] == 61
            expect(page.get_by_text("Report", exact=True)).not_to_be_visible()  # there is none
            assert violations(page) == []
            for second in range(MOST):
                shutil.copytree(older.folder, tmp_path / f"train/2026-01-05/09-00-0{second}")
            more = page.get_by_role("region", name=f"{MOST + 2} runs, newest first")
            expect(more.locator("[aria-sort=descending]")).to_contain_text("Validation loss")
            expect(more.locator("tbody tr").last).to_contain_text("0.9900")
            page.get_by_label("Runs to compare").select_option(index=list(range(MOST + 2)))
            expect(page.get_by_text(f"Shown are the first {MOST} of {MOST + 2} runs.")).to_be_visible()
            expect(beside).to_have_count(MOST)
            assert beside.first.evaluate(
                "row => row.closest('.scroll').scrollWidth <= row.closest('.scroll').clientWidth"
            )
        with open_page(browser, url, width=390, dark=True) as page:
            expect(page.get_by_role("region", name="What runs differ in")).to_be_visible()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert hidden_at_the_right(page) == []
