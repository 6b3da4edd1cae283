import re
from html.parser import HTMLParser

import numpy as np
import pytest

from lstm_ts.model.baselines import BASELINES
from lstm_ts.scoring.records import ForecastRecord
from lstm_ts.scoring.report import WORDS, format_table, write_report
from lstm_ts.scoring.scores import HorizonScores, StepScores, compute_scores, describe_skill

HOUR = np.timedelta64(1, "h")


def make_record(n=60, horizon=24):
    rng = np.random.default_rng(0)
    steps_H = np.arange(1, horizon + 1)
    q_NHQ = np.tile(1e-3 * np.sqrt(steps_H)[:, None] * np.array([-1.28, 0.0, 1.28]), (n, 1, 1))
    origin_ts_N = np.datetime64("2015-01-20T00", "us") + np.arange(n) * HOUR
    return ForecastRecord(
        symbol="XAGUSD",
        levels=(0.1, 0.5, 0.9),
        origin_ts_N=origin_ts_N,
        target_ts_NH=origin_ts_N[:, None] + steps_H * HOUR,
        last_close_N=16 + rng.normal(0, 0.1, n),
        y_NH=1e-3 * np.cumsum(rng.standard_normal((n, horizon)), axis=1),
        quantiles={
            "lstm": q_NHQ * 1.01,
            "persistence": 0 * q_NHQ,
            "climatology": q_NHQ,
            "volatility": q_NHQ * rng.uniform(0.5, 2.0, (n, 1, 1)),
        },
        baselines=("persistence", "climatology", "volatility"),
        window_volatility_N=rng.random(n),
        last_bar_position_N=rng.uniform(-1, 1, n),
        hour_of_day_N=np.arange(n) % 24,
        mase_scale_H=1e-3 * np.sqrt(steps_H),
    )


def make_horizon(*, pinball_bps=8.0, skill, dm_p, **baselines_bps):
    def step(bps):
        return StepScores(bps, 2 * bps, 20.0, 0.03, 0.52, (0.51, 0.53), {"0.8": 0.8}, 1.0, 100)

    baselines = {name: step(bps) for name, bps in baselines_bps.items()}
    best = min(baselines_bps.keys() - {"lightgbm"}, key=baselines_bps.__getitem__)
    return HorizonScores(**vars(step(pinball_bps)), best=best, baselines=baselines, skill=skill, dm_p=dm_p)


def test_the_report_explains_every_baseline():
    others = {"lightgbm", "garch", "champion", "from_previous", "from_scratch"}
    assert set(BASELINES) | others <= set(WORDS)


@pytest.mark.parametrize(
    ("skill", "p", "sentence"),
    [
        (0.012, 0.001, "1 hour ahead: better than volatility by 1.2 % (DM p = 0.001)."),
        (0.012, 0.0001, "1 hour ahead: better than volatility by 1.2 % (DM p < 0.001)."),
        (0.012, 0.05, "1 hour ahead: no skill over volatility (DM p = 0.050)."),
        (-0.02, 0.41, "1 hour ahead: no skill over volatility (DM p = 0.410)."),
        (-0.02, 0.01, "1 hour ahead: worse than volatility by 2.0 % (DM p = 0.010)."),
    ],
)
def test_skill_is_claimed_only_below_five_percent(skill, p, sentence):
    horizon = make_horizon(skill={"volatility": skill}, dm_p={"volatility": p}, volatility=8.1)
    assert describe_skill("1", horizon) == sentence


def test_a_better_baseline_than_volatility_is_named_too():
    horizon = make_horizon(
        skill={"volatility": 0.02, "lightgbm": -0.001},
        dm_p={"volatility": 0.001, "lightgbm": 0.6},
        volatility=8.2,
        lightgbm=7.99,
    )
    assert describe_skill("24", horizon) == (
        "24 hours ahead: better than volatility by 2.0 % (DM p = 0.001); no skill over lightgbm (DM p = 0.600)."
    )


def test_an_undefined_test_claims_nothing():
    horizon = make_horizon(skill={"volatility": 0.5}, dm_p={"volatility": float("nan")}, volatility=16.0)
    assert describe_skill("6", horizon).startswith("6 hours ahead: no skill over volatility (DM test undefined")


@pytest.mark.parametrize("columns", [120, 80])
def test_the_table_fits_a_terminal_and_shows_persistence_at_every_step(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    table = format_table(compute_scores(make_record()))
    assert max(map(len, table.splitlines())) <= columns
    assert "in 80 % interval" in table
    assert ("A wider terminal shows MAE and direction" in table) == (columns == 80)
    assert table.count("\npersistence") == 3
    assert [line.split(":")[0] for line in table.splitlines() if " ahead: " in line] == [
        "1 hour ahead",
        "6 hours ahead",
        "24 hours ahead",
    ]
    assert "nan" not in table


def test_origins_whose_close_is_not_known_are_told_apart(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    record = make_record(horizon=6)
    assert "is known" not in format_table(compute_scores(record))
    record.y_NH[-1, :] = record.y_NH[-3:-1, 5] = np.nan
    second = format_table(compute_scores(record)).splitlines()[1]
    assert second == "A step is scored at the origins whose close that far ahead is known: 59 at 1 h, 57 at 6 h."


def test_steps_beyond_the_horizon_are_not_shown():
    assert "24 hours" not in format_table(compute_scores(make_record(horizon=6)))


def test_the_report_is_one_file_that_needs_nothing_else(tmp_path):
    record = make_record()
    path = write_report(tmp_path / "report", record, compute_scores(record), "synthetic minutes, seed 7")
    page = path.read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert len(sources) == 4 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert {file.name for file in path.parent.iterdir()} == {
        "report.html",
        "forecast_fan.png",
        "calibration.png",
        "skill_by_horizon.png",
        "skill_through_time.png",
    }
    assert path.parent.joinpath("calibration.png").read_bytes().startswith(b"\x89PNG")


def test_every_table_of_the_report_shows_persistence_and_closes_its_tags(tmp_path):
    record = make_record()
    page = write_report(tmp_path, record, compute_scores(record), "files").read_text()
    tables = re.findall(r"<table[^>]*>.*?</table>", page, re.S)
    assert "ahead ahead" not in page
    assert len(tables) == 7 and all("persistence" in table for table in tables)
    open_tags = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Balance().feed(page)
    assert open_tags == []


def test_the_report_names_what_was_scored_and_explains_its_words(tmp_path):
    record, about = make_record(), {"Version": "3 of <silver>", "Seed": "7"}
    page = write_report(tmp_path, record, compute_scores(record), "files", about=about).read_text()
    assert "<dt>Version</dt><dd>3 of &lt;silver&gt;</dd><dt>Seed</dt><dd>7</dd>" in page
    assert page.index("<dt>Seed</dt>") < page.index("<h2>Scores</h2>") < page.index("<footer>")
    for word in ("pinball", "skill", "DM p", "in 80 % interval", "persistence"):
        assert f"<dt>{word}</dt>" in page
    assert '<meta name="viewport"' in page


@pytest.mark.slow
def test_synthetic_data_is_labelled_and_real_data_is_not(tmp_path):
    record = make_record()
    scores = compute_scores(record)
    label = '<span class="synthetic">synthetic data</span>'
    assert label in write_report(tmp_path / "a", record, scores, "synthetic minutes, seed 7").read_text()
    assert label not in write_report(tmp_path / "b", record, scores, "files <silver>").read_text()
    assert "files &lt;silver&gt;" in (tmp_path / "b" / "report.html").read_text()
