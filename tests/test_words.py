"""A forecast in words, tables and files."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from replies import reply_with

from dashboard.forecast.figures import figures, skill_figure
from dashboard.ui.text import curl, moments, outcome_words, short, signed, step_skill_words, to_csv, trust, warnings
from dashboard.ui.views import path_table
from lstm_ts.http_schema import ForecastReply, Skill, SkillOver, Step, StepSkill
from lstm_ts.market.bars import HOURLY_SCHEMA

BERLIN = ZoneInfo("Europe/Berlin")


def step(hour: int, price: float) -> Step:
    return Step(
        target_ts=datetime(2015, 1, 6, hour, tzinfo=UTC),
        price=price,
        lower_80=price - 1,
        upper_80=price + 1,
        quantiles={0.1: price - 1, 0.5: price, 0.9: price + 1},
        persistence=30.0,
    )


@pytest.fixture
def forecast() -> ForecastReply:
    return reply_with(
        [step(10, 30.03), step(11, 29.97)],
        symbol="<XAG>",
        origin_ts=datetime(2015, 1, 6, 9, tzinfo=UTC),
        last_close=30.0,
        skill_reason="no outcomes are scored yet",
        flags=["stale input: 2 session hours"],
    )


@pytest.mark.parametrize(
    ("skill", "words"),
    [
        ((0.004, -0.005, 0.013), "+0.4 % over har, the best baseline (-0.5 % to +1.3 %), {}: no proven skill."),
        ((0.02, 0.01, 0.03), "+2.0 % over har, the best baseline (+1.0 % to +3.0 %), {}: proven skill."),
        ((-0.02, -0.03, -0.01), "-2.0 % over har, the best baseline (-3.0 % to -1.0 %), {}: worse, proven."),
        ((0.02, None, None), "+2.0 % over har, the best baseline, {}: too few days to tell."),
    ],
)
def test_skill_is_said_with_what_it_proves(skill: tuple[float, float | None, float | None], words: str) -> None:
    over = SkillOver(skill=skill[0], lower=skill[1], upper=skill[2])
    persistence = SkillOver(skill=0.05, lower=0.04, upper=0.06)
    step = StepSkill(
        step=6, outcomes=1312, since=date(2026, 3, 1), best="har", over_best=over, over_persistence=persistence
    )
    said = words.format("+5.0 % over persistence (+4.0 % to +6.0 %)")
    assert step_skill_words(step) == f"6 session hours ahead, by 1,312 outcomes since 2026-03-01: {said}"
    alone = step.model_copy(update={"best": "persistence", "over_best": persistence})
    assert step_skill_words(alone).count("persistence") == 1


def test_a_skill_says_how_old_it_is_and_a_missing_one_why(forecast: ForecastReply) -> None:
    over = SkillOver(skill=0.05, lower=0.04, upper=0.06)
    step = StepSkill(step=1, outcomes=9, since=date(2026, 3, 1), best="<har>", over_best=over, over_persistence=over)
    skill = Skill(measured_at=datetime(2026, 3, 4, 5, tzinfo=UTC), confidence=0.995, steps=[step])
    told = trust(forecast.model_copy(update={"skill": skill, "skill_reason": "it may not be the newest: no <file>"}))
    assert "&lt;har&gt;" in told
    assert "Measured 2026-03-04 05:00 UTC. The bounds hold with 99.5 % confidence. It may not be the newest: no" in told
    assert "no &lt;file&gt;." in told
    assert "not known: no outcomes are scored yet." in trust(forecast)


def test_the_figures_are_those_of_the_chosen_step(forecast: ForecastReply) -> None:
    text = figures(forecast, 2, BERLIN, datetime(2015, 1, 6, 9, 30, tzinfo=UTC), past=False)
    for told in (
        "<dt>Price now</dt><dd><b>30.000</b>",  # of a symbol that names no currency
        "<dt>80 % interval, 2 h ahead</dt><dd><b>28.970 to 30.970</b>",
        "by Tue 06 Jan 2015 12:00 Europe/Berlin (Tue 06 Jan 2015 11:00 UTC)",
        "<dt>Median, 2 h ahead</dt><dd><b>29.970</b><span>-10.0 bps under persistence",
        "<dt>Live skill</dt><dd><b>not known</b><span>no outcomes are scored yet",
        "<b>30 min</b><span>0 session hours since Tue 06 Jan 2015 10:00",
        "<dt>Version of XAGUSD</dt><dd><b>3</b><span>champion, trained until 2025-12-01",
    ):
        assert told in text
    assert "30.030" in figures(forecast, 1, BERLIN, forecast.origin_ts, past=False)


def test_old_data_stand_out_and_a_chosen_hour_has_no_age(forecast: ForecastReply) -> None:
    late = datetime(2015, 1, 9, 9, tzinfo=UTC)
    assert '<div class="bad"><dt>Age of the data</dt><dd><b>3 days</b><span>2 or more session hours' in figures(
        forecast, 1, BERLIN, late, past=False
    )
    assert "Age" not in figures(forecast, 1, BERLIN, late, past=True)
    assert "Last price" in figures(forecast, 1, BERLIN, late, past=False)


def test_an_arm_that_another_model_stood_in_for_is_said(forecast: ForecastReply) -> None:
    text = figures(forecast.model_copy(update={"arm": "challenger"}), 1, BERLIN, forecast.origin_ts, past=False)
    assert "champion, for the challenger, trained until" in text


def test_the_skill_shown_is_that_of_the_nearest_scored_step(forecast: ForecastReply) -> None:
    def scored(step: int, skill: float) -> StepSkill:
        over = SkillOver(skill=skill, lower=skill - 0.01, upper=skill + 0.01)
        return StepSkill(
            step=step, outcomes=9, since=date(2026, 3, 1), best="har", over_best=over, over_persistence=over
        )

    skill = Skill(
        measured_at=datetime(2026, 3, 4, 5, tzinfo=UTC), confidence=None, steps=[scored(1, 0.05), scored(6, -0.02)]
    )
    assert (
        '<div class="good"><dt>Live skill, 1 h ahead</dt><dd><b>+5.0 %</b><span>over har: proven'
        in skill_figure(skill, None, 2).html()
    )
    assert '<div class="bad"><dt>Live skill, 6 h ahead' in skill_figure(skill, None, 24).html()


def test_a_time_is_told_once_where_the_browser_is_in_utc(forecast: ForecastReply) -> None:
    london = ZoneInfo("Europe/London")
    assert moments(datetime(2015, 1, 6, 9, tzinfo=UTC), london) == "Tue 06 Jan 2015 09:00 Europe/London"
    assert moments(datetime(2015, 7, 6, 9, tzinfo=UTC), london).endswith("(Mon 06 Jul 2015 09:00 UTC)")
    assert "UTC</small>" not in path_table(forecast, london)


def test_flags_and_provenance_are_sentences(forecast: ForecastReply) -> None:
    assert "<li>Stale input: 2 session hours</li>" in warnings(forecast, past=False)
    assert "version 3 of XAGUSD (champion), trained until 2025-12-01" in trust(forecast)
    assert warnings(forecast.model_copy(update={"flags": []}), past=False) == ""


def test_a_flag_of_another_price_level_is_shown_for_hours_of_any_age(forecast: ForecastReply) -> None:
    flag = "another price level than that of the training hours: a close of 2000 is 100 times as much as their highest"
    for past in (False, True):
        assert f"<li>{flag.capitalize()}</li>" in warnings(forecast.model_copy(update={"flags": [flag]}), past=past)


def test_the_table_has_both_times_and_the_digits_of_the_prices(forecast: ForecastReply) -> None:
    table = path_table(forecast, BERLIN)
    assert "Tue 06 Jan 2015 11:00<br><small>Tue 06 Jan 2015 10:00 UTC</small>" in table
    for head, cell in {
        "Median": "30.030",
        "bps": "+10.0",
        "80 % interval": "29.030 to 31.030",
        "Persistence": "30.000",
    }.items():
        assert f'<td data-label="{head}">{cell}</td>' in table
    assert "Median, JPY" in path_table(forecast.model_copy(update={"currency": "JPY", "decimals": 0}), BERLIN)


def test_a_price_of_millionths_is_not_nothing(forecast: ForecastReply) -> None:
    path = [step.model_copy(update={"price": 3.1e-6, "persistence": 3e-6}) for step in forecast.path]
    small = forecast.model_copy(update={"currency": "USD", "decimals": 2, "last_close": 3e-6, "path": path})
    assert "<b>0.0000031000 USD</b>" in figures(small, 1, BERLIN, small.origin_ts, past=False)
    assert '<td data-label="Median, USD">0.0000031000</td>' in path_table(small, BERLIN)
    assert ",0.0000031000000," in to_csv(small)


def test_a_time_of_another_year_than_this_one_carries_it() -> None:
    this_year = datetime(datetime.now(UTC).year, 6, 6, 12, tzinfo=UTC)
    assert short(this_year, BERLIN) == f"{this_year:%a} 06 Jun 14:00"
    assert short(datetime(2014, 5, 23, 20, tzinfo=UTC), BERLIN) == "Fri 23 May 2014 22:00"


def test_the_age_of_hours_that_someone_chose_is_no_warning(forecast: ForecastReply) -> None:
    old = forecast.model_copy(update={"flags": ["stale input: the last bar is 23 days old", "missing hours: 1"]})
    assert "<li>Stale input: the last bar is 23 days old</li>" in warnings(old, past=False)
    assert "23 days" not in warnings(old, past=True)
    assert "<li>Missing hours: 1</li>" in warnings(old, past=True)


def test_what_came_is_scored_beside_persistence(forecast: ForecastReply) -> None:
    rows = [(datetime(2015, 1, 6, hour, tzinfo=UTC), 30.0, 30.0, 30.0, 30.03, 1.0, None, 1.0) for hour in (9, 10)]
    after = pl.DataFrame(rows, schema=HOURLY_SCHEMA, orient="row")
    # the median: 0 and 20.0 bps off, persistence 10.0 twice
    assert "Over the 2 hours that followed, the median was off by 10.0 bps on average, persistence by 10.0" in (
        outcome_words(forecast, after)
    )
    assert "2 of 2 closes" in outcome_words(forecast, after)
    assert "nothing to score" in outcome_words(forecast, after.clear())


def test_a_csv_holds_every_level(forecast: ForecastReply) -> None:
    head, first, _ = to_csv(forecast).splitlines()
    assert head == "step,target_ts,median,lower_80,upper_80,persistence,q0.1,q0.5,q0.9"
    assert first.startswith("1,2015-01-06T10:00:00+00:00,30.030000,29.030000,31.030000,30.000000,")


def test_the_command_never_holds_the_key() -> None:
    asked = curl("http://host:8000", "XAGUSD", key=True, window=False)
    assert asked == """curl -H "X-API-Key: $LSTM_TS_API_KEY" 'http://host:8000/forecast?symbol=XAGUSD'"""
    assert curl("http://host", "X", key=False, window=True) == "curl http://host/predict --json @window.json"


def test_nothing_is_not_minus_nothing() -> None:
    assert signed(-0.01) == "+0.0"
