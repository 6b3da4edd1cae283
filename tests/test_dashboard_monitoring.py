"""The monitoring page in a real browser, over what real runs of the monitor and the alerts have left in a ledger."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import panel as pn
import polars as pl
import pytest
from browsing import Dashboard, confirm, hidden_at_the_right, open_page, rows_of, shown, violations
from playwright.sync_api import Browser, Page, expect
from processes import wait_for
from prometheus_client.samples import Sample
from serving import Server, running
from test_configs import compose as composed
from test_monitor_parts import FORECAST
from watched import CLOCK, DECIDED, make_watched, opened

from dashboard.attempts import PAUSE_S
from dashboard.client import Client
from dashboard.monitoring.challenger import challenger_view
from dashboard.monitoring.checks import find_checks, make_check
from dashboard.monitoring.hourly_coverage import find_bounds
from dashboard.monitoring.incidents import incidents_view
from dashboard.monitoring.live_skill import describe_skill, skill_columns, skill_through_time
from dashboard.monitoring.model_view import ModelView
from dashboard.monitoring.past_forecasts import PastChart, PastPath, describe, fan_tips, find_breaks
from dashboard.monitoring.service import data_view, duration, quantile, service_view
from dashboard.monitoring.watched import Watched, WatchedLedger
from dashboard.server import read_settings
from dashboard.ui.page_context import PageContext
from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.ledger.alert_tables import read_silences
from lstm_ts.ledger.monitor_rows import FindingRow, MonitorState, Score
from lstm_ts.ledger.monitor_tables import add_forecasts, put_states, read_daily_scores, read_scores
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.market.session import HOUR, Session
from lstm_ts.monitoring.challenge import Challenge
from lstm_ts.monitoring.confidence import DailyLosses, SkillSettings
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.service_counters import ServiceCounters
from lstm_ts.monitoring.verdict import ChallengeVerdict, Evidence, Record, VerdictState

pytestmark = pytest.mark.slow

PASSWORD = "open sesame"
BERLIN, NOON = ZoneInfo("Europe/Berlin"), datetime(2026, 1, 1, 12, tzinfo=UTC)
DISK = Finding("disk", "data", Health.BAD, "3 % of the disk of <data> is free.", "df -h data")
SLOW = Finding("service_latency", "http://127.0.0.1:8000", Health.BAD, "9 of 90 requests took over 0.5 s.", "curl …")


@pytest.fixture(scope="module")
def folder(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, now: datetime, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Champion 1 and challenger 2, watched since April; one alert is open, one has ended."""
    folder = make_watched(tmp_path_factory.mktemp("watched"), empty, hourly_bars, silver, now)
    alerts = construct(compose("alerts", []).alerts)
    with opened(folder) as ledger:
        report(ledger, alerts, [DISK, SLOW], now=now - timedelta(days=2))
        report(ledger, alerts, [SLOW], now=now - timedelta(days=1))
        for ago in (3, 2):
            good = replace(SLOW, health=Health.GOOD)
            report(ledger, alerts, [good], now=now - timedelta(hours=ago))
    return folder


@pytest.fixture(scope="module")
def started(folder: Path, now: datetime) -> Iterator[tuple[Server, Dashboard]]:
    """Both at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOCK, now.isoformat())
        with running(Server(folder)) as server:
            password = f"operator_password={PASSWORD}"
            with shown(Dashboard(folder, str(server.client.base_url), password)) as dashboard:
                yield server, dashboard


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    with open_page(browser, f"{dashboard.url}/?page=monitoring") as page:
        yield page


def silences(folder: Path, now: datetime) -> list[tuple[str, str | None, timedelta, str, str]]:
    with opened(folder) as ledger, ledger.transaction() as connection:
        found = read_silences(connection, at=now)
    return [(row.rule, row.subject, row.until - now, row.actor, row.reason) for row in found]


def misses(scores: list[Score]) -> str:
    outside = sum(not row.low <= row.y <= row.high for row in scores)
    return f"Of {len(scores):,} known outcomes {outside:,} ("


@pytest.mark.browser
def test_past_skill_coverage_and_checks_are_those_of_the_ledger(
    page: Page, folder: Path, service: Server, now: datetime
) -> None:
    checks = rows_of(page, "What the monitor found of XAGUSD")
    expect(checks.first).to_contain_text("✓ good")
    expect(checks.first).to_contain_text("0 session hours have closed since")
    expect(checks.last).to_contain_text("? unknown")
    expect(checks.last).to_contain_text("No forecast of XAGUSD was served")
    with opened(folder) as ledger, ledger.transaction() as connection:
        champion, challenger = (read_scores(connection, "XAGUSD", version, since=DECIDED) for version in (1, 2))
        days = read_daily_scores(connection, "XAGUSD", 1)
    of_step_1, of_step_6 = ([row for row in champion if row.step == step] for step in (1, 6))
    missed = sum(not row.low <= row.y <= row.high for row in of_step_1)
    page.get_by_role("button", name="Whole span").click()
    told, month = page.get_by_text("forecasts of this span"), now.replace(minute=0) - timedelta(days=31)
    expect(told).to_contain_text(misses([row for row in of_step_1 if row.origin_ts >= month]))
    model, persistence = (sum(row.losses[name] for row in of_step_1) for name in ("model", "persistence"))
    skill = page.get_by_text("over persistence, by")
    expect(skill).to_contain_text(f"{100 * (1 - model / persistence):+.1f} % over persistence")
    expect(skill).to_contain_text(f"{len(of_step_1):,} forecasts 1 session hour ahead on")
    expect(skill).to_contain_text("with 95 % confidence between")
    inside = len(of_step_1) - missed
    expect(page.get_by_text("lay within the 80 % interval.")).to_contain_text(f"{inside:,} of {len(of_step_1):,}")
    page.get_by_label("Session hours ahead").select_option("6")
    expect(skill).to_contain_text(f"{len(of_step_6):,} forecasts 6 session hours ahead")
    page.get_by_label("Version").select_option("2 (challenger)")
    expect(told).to_contain_text(misses([row for row in challenger if row.step == 6 and row.origin_ts >= month]))
    expect(page.get_by_text("Version 2 is challenger of version 1")).to_contain_text("by a test: calmer <nights>")
    wait_for(lambda: service.health().ready)
    expect(rows_of(page, "Workers of the service").first).to_contain_text("version 1, trained until 2014-04-01")
    expect(rows_of(page, "Last hourly bars").first).to_contain_text("15 min")
    assert sum(day.sums["n"] for day in days) == len(champion)


@pytest.mark.browser
def test_an_operator_silences_an_alert_and_ends_the_silence(page: Page, folder: Path, now: datetime) -> None:
    expect(rows_of(page, "Open alerts").first).to_contain_text("3 % of the disk of <data> is free.")
    expect(rows_of(page, "Past alerts")).to_contain_text(["for 46 h"])
    page.get_by_role("button", name="Silence …").click()
    expect(page.get_by_text("For 4 hours, alerts of disk of data are silenced.")).to_be_visible()
    confirm(page, reason="a <new> disk is on its way", password="open says me")
    expect(page.get_by_text("Expected the operator password, got another one")).to_be_visible()
    assert silences(folder, now) == []
    page.wait_for_timeout(1000 * PAUSE_S)
    page.get_by_role("button", name="Silence …").click()
    confirm(page, reason="a <new> disk is on its way", password=PASSWORD)
    expect(page.get_by_text("Alerts of disk of data are silenced until")).to_be_visible()
    expected = ("disk", "data", timedelta(hours=4), "dashboard", "a <new> disk is on its way")
    assert silences(folder, now) == [expected]
    expect(rows_of(page, "Silences in force")).to_contain_text(["a <new> disk is on its way"])
    expect(rows_of(page, "Open alerts").first).to_contain_text("silenced until")
    page.get_by_role("button", name="End it …").click()
    confirm(page, reason="it is there", password=PASSWORD)
    expect(page.get_by_role("status")).to_have_text("Alerts of disk of data are no longer silenced.")
    assert silences(folder, now) == []
    expect(rows_of(page, "Silences in force")).to_have_count(0)


@pytest.mark.browser
def test_what_is_found_next_is_shown_by_itself_and_a_ledger_that_is_away_too(
    page: Page, folder: Path, now: datetime
) -> None:
    expect(rows_of(page, "Open alerts").first).to_be_visible()
    with opened(folder) as ledger:
        report(ledger, construct(compose("alerts", []).alerts), [replace(DISK, subject="models")], now=now)
    expect(rows_of(page, "Open alerts").first).to_contain_text("disk of models")
    (folder / "ledger.db").rename(folder / "away.db")
    away = page.get_by_text("This page retries automatically.")
    expect(away).to_contain_text("Expected the ledger")
    expect(told := page.get_by_text("forecasts of this span")).to_be_visible()
    page.get_by_label("Version").select_option("2 (challenger)")
    expect(told).to_be_hidden()
    (folder / "away.db").rename(folder / "ledger.db")
    expect(away).to_have_count(0)
    expect(told).to_be_visible()


def losses_of(days: int) -> DailyLosses:
    """The model's loss of a day is 0.9 or 0.7, the baseline's 1."""
    day_D = np.datetime64("2014-01-01") + np.arange(days)
    model_D = np.where(np.arange(days) % 2, 0.9, 0.7)
    return DailyLosses(day_D, np.full(days, 24), model_D, np.ones(days))


def test_skill_has_an_interval_after_some_days_and_is_claimed_over_the_best_baseline_only() -> None:
    settings = SkillSettings(alpha=0.05, min_days=20, tightest_days=60)
    points = [skill for _, skill in skill_through_time(losses_of(400), settings)]
    assert len(points) == 200 and (points[0].days, points[-1].days) == (1, 400)
    assert [np.isnan(skill.low) for skill in points] == [skill.days < 20 for skill in points]
    assert points[-1].skill == pytest.approx(0.2)
    best, other = (describe_skill("har", points[-1], 1, settings, is_best=is_best) for is_best in (True, False))
    assert best.startswith("+20.0 % over har, the best baseline, by 9,600 forecasts 1 session hour ahead on 400 days")
    assert [skill_columns([(np.datetime64("2014-01-01"), point)])["between"] for point in (points[0], points[-1])] == [
        ["not known yet"], [best.split("between ")[1].removesuffix(": proven skill.")],
    ]  # fmt: skip
    assert best.endswith(": proven skill.") and "proven" not in other
    young = describe_skill("har", points[0], 1, settings, is_best=True)
    assert young.endswith("since 01 Jan 2014; an interval is there after 20 days.")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_the_page_is_accessible_and_fits_the_screen(
    browser: Browser, dashboard: Dashboard, width: int, dark: bool
) -> None:
    with open_page(browser, f"{dashboard.url}/?page=monitoring", width=width, dark=dark) as page:
        expect(page.get_by_text("forecasts of this span")).to_be_visible()
        expect(page.get_by_text("lay within the 80 % interval.")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert hidden_at_the_right(page) == []


class Unwatched:
    """A page's context and ledger without a run of the monitor."""

    def __init__(self, empty: Path, folder: Path) -> None:
        shutil.copy(empty / "ledger.db", folder / "ledger.db")
        self.url = f"sqlite:///{folder}/ledger.db"
        data = (f"paths.data={folder}/data", "service.url=http://127.0.0.1:9")
        settings = read_settings(composed("dashboard", f"registry.ledger={self.url}", *data), folder)
        self.context = PageContext(Client(settings), settings, BERLIN, dark=False)


def test_before_the_first_run_the_page_says_what_will_appear_and_nothing_is_good(empty: Path, tmp_path: Path) -> None:
    unwatched = Unwatched(empty, tmp_path)
    model = ModelView(unwatched.context, WatchedLedger(unwatched.url), "XAGUSD")
    model.load()
    said = [html.object for html in model.view.select(pn.pane.HTML)]
    text = "\n".join(said)
    command = f"python -m lstm_ts.monitor symbol=XAGUSD paths.data={tmp_path}/data"
    assert f"The monitor has not run yet: <code>{command}</code>" in text and text.count(command) == 5
    assert "an interval for the skill is there after 20 days" in text
    assert "No forecast is kept of it" in text and "No forecast has been scored yet: coverage by hour of day" in text
    assert "No version is challenger of XAGUSD" in text and f"reason=… paths.data={tmp_path}/data" in text
    assert text.count("? unknown") == 4 and "✓" not in text
    assert not any(column.min_height for column in model.view.select(pn.Column)), "room is kept for no picture"
    assert "No alert has been raised" in incidents_view(WatchedLedger(unwatched.url).alarms(NOON), BERLIN)
    assert "does not answer. Start it (make serve)" in service_view(unwatched.context.client)
    assert "none is stored" in data_view(unwatched.context.client, [], BERLIN, NOON)


@pytest.mark.filterwarnings("ignore:Widget.name:PendingDeprecationWarning")
def test_hours_are_late_by_the_session_of_the_models_symbol_whatever_its_name(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saturday = datetime(2015, 3, 7, tzinfo=UTC)
    monkeypatch.setenv(CLOCK, (saturday + 52 * HOUR).isoformat())  # silver trades again, New York does not
    unwatched = Unwatched(empty, tmp_path)
    with opened(tmp_path) as ledger, ledger.transaction() as connection:
        add_forecasts(connection, [replace(FORECAST, name="wide", symbol="SPY")])
        put_states(connection, [MonitorState("wide", 3, "drift", saturday, {})])
    model = ModelView(unwatched.context, WatchedLedger(unwatched.url), "wide")
    model.load()
    (said,) = [html.object for html in model.view.select(pn.pane.HTML) if "has last run" in html.object]
    assert said.startswith("<p>The monitor has last run on ")


def test_a_command_that_is_shown_chooses_symbol_and_model(tmp_path: Path) -> None:
    settings = read_settings(composed("dashboard", "symbol=SPY", "name=wide"), tmp_path)
    assert settings.command("monitor", "wide") == "python -m lstm_ts.monitor symbol=SPY name=wide"
    assert settings.command("monitor", "long", "XAUUSD") == "python -m lstm_ts.monitor symbol=XAUUSD name=long"
    assert settings.command("retrain", "XAUUSD") == "python -m lstm_ts.retrain symbol=XAUUSD"


def finding(**changes: object) -> FindingRow:
    row = FindingRow("concept_drift", "XAGUSD champion", NOON, NOON - HOUR, "good", "No drift in 900 hours.", "see")
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "late", "health"),
    [
        (finding(), False, Health.GOOD),
        (finding(), True, Health.UNKNOWN),
        (finding(at=NOON - HOUR), False, Health.UNKNOWN),  # the last run has not looked at it
        (finding(health="bad"), True, Health.BAD),
        (finding(health="unknown"), False, Health.UNKNOWN),
    ],
)
def test_what_was_not_looked_at_lately_is_not_good(row: FindingRow, late: bool, health: Health) -> None:
    assert make_check("Concept", row, NOON, is_late=late).health is health


def test_findings_of_an_alias_that_nobody_holds_are_not_shown() -> None:
    moved = AliasChange(NOON, "XAGUSD", "champion", "promote", None, 1, "me", "so", "done")
    others = (finding(subject="XAGUSD challenger"), finding(subject="XAUUSD champion"))
    found = (finding(), *others, *(finding(rule=rule, subject="second") for rule in ("data_stale", "regime")))
    watched = Watched("XAGUSD", NOON, found, (1,), {"champion": moved}, None)
    checks = find_checks(watched, "XAGUSD", "see", is_late=False)
    assert [(check.subject, check.health) for check in checks] == [
        *3 * [("", Health.UNKNOWN)], ("XAGUSD champion", Health.GOOD),
    ]  # fmt: skip


def test_a_second_model_shows_its_own_findings_and_those_of_its_symbols_feed() -> None:
    rules = ("data_stale", "data_quality", "regime", "skew")
    watched = Watched("second", NOON, tuple(finding(rule=rule, subject="XAGUSD") for rule in rules), (1,), {}, None)
    checks = find_checks(watched, "XAGUSD", "see", is_late=False)
    assert [check.subject for check in checks] == ["XAGUSD", "XAGUSD", "", ""]


def test_a_challengers_evidence_is_the_monitors_whatever_the_page_is_configured_with() -> None:
    evidence = Evidence(0.5, 0.6, 0.7, 0.8, -0.9, needed=1.7, needed_live=1.1)
    settings, nothing = construct(compose("monitor", []).verdict), Record(0, 0.0, (0.0,), (0.0,))
    state = VerdictState(1.0, nothing, nothing, (0.0,))
    challenge = Challenge(1, NOON, NOON, state, ChallengeVerdict.RUNNING, "Undecided.", evidence)
    moved = AliasChange(NOON, "XAGUSD", "challenger", "promote", None, 2, "me", "so", "done")
    watched = Watched("XAGUSD", NOON, (), (1, 2), {"challenger": moved}, challenge.to_json())
    html = challenger_view(watched, settings, BERLIN, is_late=False, paths="")
    assert all(f"10^{value}" in html for value in (0.5, 0.6, 0.7, 0.8, -0.9, 1.7, 1.1))
    of_old = replace(watched, challenge={**challenge.to_json(), "evidence": None})
    assert "No data yet" in challenger_view(of_old, settings, BERLIN, is_late=False, paths="")


def test_binomial_bounds_hold_the_share_and_are_closed_at_none_and_all() -> None:
    """Clopper-Pearson: of 10, none is 0 to 1 - 0.025 ** (1 / 10) = 0.308; all is 0.692 to 1."""
    low_K, high_K = find_bounds(np.array([0, 8, 10]), np.array([10, 10, 10]))
    assert low_K == pytest.approx([0, 0.444, 0.692], abs=1e-3)
    assert high_K == pytest.approx([0.308, 0.975, 1], abs=1e-3)


def test_misses_are_those_outside_of_80_percent_and_the_line_breaks_where_hours_lack(
    empty: Path, tmp_path: Path
) -> None:
    hours = np.array([1.0, 2.0, 3.0, 9.0, 10.0]) * 3.6e6
    band_N2 = {"50": np.tile([15.5, 16.5], (5, 1)), "80": np.tile([15.0, 17.0], (5, 1))}
    path = PastPath(hours - 3.6e6, hours, np.full(5, 16.0), band_N2, np.array([16.0, 17.5, np.nan, 14.0, 16.5]))
    assert path.missed_N.tolist() == [False, True, False, True, False]
    assert [name for name, _ in fan_tips(path)] == ["Target", "Forecast at", "Median", "50 %", "80 %"]
    chart = PastChart(Unwatched(empty, tmp_path).context, "XAGUSD")
    chart.show(path, hours)
    came = [each.data_source.data["came"] for each in chart.plot.renderers if "came" in each.data_source.data]
    assert came[0][:3] == ["16.000", "17.500", "not known yet"]
    line = find_breaks(path.target_ms_N / 6e4, path.close_N)
    assert np.array_equal(line["close"], [16.0, 17.5, np.nan, 14.0, 16.5], equal_nan=True)
    assert np.isnan(line["x"][2])
    assert describe(path, 0, 4 * 3.6e6).startswith("3 forecasts of this span. Of 2 known outcomes 1 (50.0 %) lie")
    assert describe(path, 2.5 * 3.6e6, 4 * 3.6e6) == "1 forecasts of this span; no outcome of them is known yet."


def test_half_of_the_requests_are_within_the_border_that_half_are_counted_by() -> None:
    borders = {"0.01": 40.0, "0.02": 60.0, "+Inf": 100.0}
    name = "lstm_ts_request_seconds_bucket"
    samples = [Sample(name, {"route": "/predict", "le": border}, count) for border, count in borders.items()]
    samples.append(Sample(name, {"route": "/health", "le": "0.01"}, 900.0))
    counters = ServiceCounters(tuple(samples))
    assert [duration(quantile(counters, share)) for share in (0.4, 0.5, 0.99)] == [
        "10 ms", "20 ms", "more than that is counted by",
    ]  # fmt: skip
    assert duration(quantile(ServiceCounters(()), 0.5)) == "-"
