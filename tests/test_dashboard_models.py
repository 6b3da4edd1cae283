"""The models page in a real browser, over a real registry and a service that follows it."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from browsing import Dashboard, confirm, hidden_at_the_right, open_page, rows_of, shown, violations
from playwright.sync_api import Browser, Page, expect
from processes import wait_for
from serving import HORIZON, Server, registry_of, running, save_model
from test_configs import compose
from test_registry import METRICS, TAGS, champion, promote, register

from dashboard.attempts import PAUSE_S
from dashboard.client import Client
from dashboard.models import page as models
from dashboard.models.model_comparison import choose_pair
from dashboard.models.model_comparison import why_not as comparison_why
from dashboard.models.promotion_panel import PromotionPanel, can_assign
from dashboard.models.promotion_panel import why_not as promotion_why
from dashboard.models.registry_client import RegistryClient
from dashboard.models.timeline import marks, step_line
from dashboard.models.version_tables import difference_words
from dashboard.operator import NotAllowed, Operator
from dashboard.server import read_settings
from dashboard.ui.confirmation import OFF
from dashboard.ui.page_context import PageContext
from lstm_ts.errors import RegistryError
from lstm_ts.ledger.rows import AliasChange
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR, Session
from lstm_ts.model.artifact import load_forecaster, save_forecasters
from lstm_ts.model.evaluation import Span, evaluate
from lstm_ts.registry.version import Version
from lstm_ts.scoring.comparison import StepComparison, compare_records
from lstm_ts.scoring.scores import compute_scores
from lstm_ts.store.bar_store import BarStore

pytestmark = pytest.mark.slow

PASSWORD = "open sesame"
BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
JUDGED = {
    "verdict": "reject",
    "experimental": False,
    "checks": [
        {"name": "samples", "passed": True, "reason": "4,321 origins <are> enough."},
        {"name": "coverage", "passed": None, "reason": "The interval covers 78 % of too few."},
        {"name": "skill over volatility", "passed": False, "reason": "Worse by 2 %."},
    ],
    "span_start": "2014-04-01T00:00:00+00:00",
    "span_end": "2014-05-01T00:00:00+00:00",
}


@pytest.fixture(scope="module")
def folder(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 is champion, version 2 was rejected; both have seen no bar from April on."""
    folder = shutil.copytree(empty, tmp_path_factory.mktemp("registered"), dirs_exist_ok=True)
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(hourly_bars)
    rejected = load_forecaster(save_model(folder / "rejected", hourly_bars, silver, seed=2))
    scores = compute_scores(evaluate(rejected, hourly_bars, Span(datetime(2014, 4, 1, tzinfo=UTC), None))).to_json()
    save_forecasters([replace(rejected, scores=scores)], folder / "scored")
    with registry_of(folder) as registry:
        register(registry, save_model(folder / "model", hourly_bars, silver, seed=1))
        tags = TAGS | {"verdict": "reject", "experimental": "false", "judged_against": "1"}
        registry.register("XAGUSD", folder / "scored", gate=JUDGED, tags=tags, metrics=METRICS, params={})
        register(registry, folder / "model", name="quiet")
        promote(registry, 1)
    return folder


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[tuple[Server, Dashboard]]:
    """Both at once."""
    with running(Server(folder)) as server:
        password = f"operator_password={PASSWORD}"
        with shown(Dashboard(folder, str(server.client.base_url), password)) as dashboard:
            yield server, dashboard


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    with open_page(browser, f"{dashboard.url}/?page=models") as page:
        yield loaded(page)


@pytest.fixture
def narrow(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    with open_page(browser, f"{dashboard.url}/?page=models", width=390, dark=True) as page:
        yield loaded(page)


def loaded(page: Page) -> Page:
    expect(rows_of(page, "Versions of XAGUSD")).to_have_count(2, timeout=60_000)  # the first context imports libraries
    return page


def served(service: Server) -> set[int]:
    return {worker.model.version for worker in service.health().workers if worker.model}


def compare(page: Page, first: int, second: int, *, weeks: int) -> None:
    for label, number in (("Version", first), ("Against", second)):
        page.get_by_label(label, exact=True).last.select_option(index=2 - number)  # newest first
    page.get_by_label("Stored hours").select_option(f"last {weeks} weeks")
    page.get_by_role("button", name="Compare").click()


def test_what_makes_no_sense_is_off_and_says_why() -> None:
    def version(*aliases: str) -> Version:
        return Version("XAGUSD", 3, NOON, "models:/3", "r", aliases, {})

    plain, champion, challenger = version(), version("champion"), version("challenger")
    may = {
        each.aliases: [can_assign(alias, each) for alias in ("champion", "challenger")]
        for each in (plain, champion, challenger)
    }
    assert may == {(): [True, True], ("champion",): [False, False], ("challenger",): [True, False]}
    assert "Version 3 is champion already" in promotion_why(champion, can_go_back=True)
    assert "no earlier champion to roll back to" in promotion_why(challenger, can_go_back=False)
    assert promotion_why(plain, can_go_back=True) == ""
    assert "retrain makes another" in comparison_why(1, 3, 3, "lstm_ts.retrain")
    assert comparison_why(2, 3, 3, "") == "Choose two different versions."
    assert comparison_why(2, 3, 2, "") == ""


@pytest.mark.browser
def test_versions_are_listed_and_the_chosen_ones_checks_are_told_in_words(page: Page, folder: Path) -> None:
    listed = rows_of(page, "Versions of XAGUSD")
    expect(listed.first).to_contain_text("reject")
    expect(listed.first).to_contain_text("7.006")
    expect(listed.last).to_contain_text("champion")
    expect(listed.last).to_contain_text("promote (experimental)")
    checks = rows_of(page, "What the gate checked of version 2")
    expect(checks).to_contain_text(["✗ failed", "? undecided", "✓ passed"])
    expect(checks.last).to_contain_text("4,321 origins <are> enough.")
    expect(page.get_by_text("judged against version 1 on held-out hours from 01 Apr 2014")).to_be_visible()
    scored = load_forecaster(folder / "scored").scores["horizons"]["1"]
    expect(rows_of(page, "Mean pinball loss of version 2").first).to_contain_text(f"{scored['pinball_bps']:.3f}")
    page.get_by_label("Version", exact=True).first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows_of(page, "What the gate checked of version 1")).to_have_count(2)
    expect(page.get_by_text("No scores are written down for this version.")).to_be_visible()
    page.get_by_label("Model").select_option("quiet")
    expect(rows_of(page, "Versions of quiet")).to_have_count(1)
    expect(page.get_by_text("No version has been champion yet.")).to_be_visible()


@pytest.mark.browser
def test_the_service_follows_a_promotion_and_a_rollback_that_an_operator_confirms(
    page: Page, folder: Path, service: Server
) -> None:
    page.get_by_role("button", name="Make version 2 champion").click()
    expect(page.get_by_text("the champion of XAGUSD goes from version 1 to version 2")).to_be_visible()
    expect(page.get_by_text("The gate said of version 2: reject.")).to_be_visible()
    confirm(page, reason=" ", password=PASSWORD)
    expect(page.get_by_text("Expected a reason for it, got none")).to_be_visible()
    confirm(page, reason="calmer <nights>", password="open says me")
    expect(page.get_by_text("Expected the operator password, got another one")).to_be_visible()
    assert violations(page) == []
    with registry_of(folder) as registry:
        assert champion(registry) == 1
    page.wait_for_timeout(1000 * PAUSE_S)
    confirm(page, reason="calmer <nights>", password=PASSWORD)
    expect(page.get_by_text("The champion of XAGUSD is version 2, no longer 1.")).to_be_visible()
    expect(page.get_by_label("Operator password")).to_be_hidden()
    expect(rows_of(page, "Versions of XAGUSD").first).to_contain_text("champion")
    wait_for(lambda: served(service) == {2})
    page.get_by_role("button", name="Roll back to version 1").click()
    confirm(page, reason="not calm at all", password=PASSWORD)
    expect(page.get_by_text("The champion of XAGUSD is version 1 again, no longer 2.")).to_be_visible()
    history = rows_of(page, "Every move of an alias")
    expect(history).to_contain_text(["▼ roll back", "▲ promote", "▲ promote"])
    expect(history.first).to_contain_text("2 → 1")
    expect(history.nth(1)).to_contain_text("calmer <nights>")
    wait_for(lambda: served(service) == {1})
    with registry_of(folder) as registry:
        assert [row.actor for row in registry.history("XAGUSD", "champion")] == ["a test", "dashboard", "dashboard"]


@pytest.mark.browser
def test_two_versions_forecast_the_same_hours_and_hours_they_have_seen_are_said(
    narrow: Page, folder: Path, hourly_bars: pl.DataFrame
) -> None:
    compare(narrow, 1, 2, weeks=4)
    told = narrow.get_by_text("Each step is tested")
    span = Span(hourly_bars["ts"][-1] + HOUR - timedelta(weeks=4), None)
    one, other = (evaluate(load_forecaster(folder / name), hourly_bars, span) for name in ("model", "scored"))
    expected = compare_records(one, other)
    expect(told).to_contain_text(f"{expected.n:,} hours")
    rows = rows_of(narrow, "Mean pinball loss in bps")
    expect(rows).to_have_count(HORIZON)
    for row, step in zip(rows.all(), expected.steps, strict=True):
        first, second = step.pinball_bps
        said = difference_words(step, 1, 2).replace("&lt;", "<")
        assert [f"{first:.3f}", f"{second:.3f}", said] == [row.locator("td").nth(i).inner_text() for i in (1, 2, 5)]
    dishonest = narrow.get_by_text("this is no honest comparison")
    expect(dishonest).to_have_count(0)
    narrow.get_by_label("Stored hours").select_option("last 13 weeks")
    expect(told).to_have_count(0)
    compare(narrow, 1, 2, weeks=13)
    expect(dishonest).to_have_count(2)
    assert violations(narrow) == []
    assert narrow.evaluate("document.documentElement.scrollWidth") <= 390
    assert hidden_at_the_right(narrow) == []
    narrow.get_by_label("Against", exact=True).last.select_option(index=1)
    expect(narrow.get_by_text("Choose two different versions.")).to_be_visible()
    expect(narrow.get_by_role("button", name="Compare")).to_be_disabled()


def test_without_a_registry_a_version_or_a_password_the_page_says_what_to_do(
    folder: Path, empty: Path, tmp_path: Path
) -> None:
    context = visit_of(tmp_path)
    with pytest.raises(RegistryError, match=r"python -m lstm_ts\.retrain makes it"):
        models.page(context)
    with pytest.raises(RegistryError, match="No version of XAGUSD is registered yet"):
        models.page(visit_of(empty))
    registered = RegistryClient(f"sqlite:///{folder}/mlflow.db", f"sqlite:///{folder}/ledger.db")
    told = PromotionPanel(context, registered, "XAGUSD", lambda: None).view
    command = f"registry action=promote{context.settings.typed_paths}"
    assert [each.object for each in told] == [OFF.format("promotes or rolls back", command)]


def visit_of(folder: Path) -> PageContext:
    databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
    settings = read_settings(compose("dashboard", *databases), folder)
    return PageContext(Client(settings), settings, BERLIN, dark=False)


def test_a_move_is_refused_once_the_alias_is_elsewhere(folder: Path, empty: Path, tmp_path: Path) -> None:
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    with registry_of(tmp_path) as registry:
        register(registry, folder / "model", count=3)
        promote(registry, 1, 2)
        registered = RegistryClient(f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/ledger.db")
        back = registered.rollback_of("XAGUSD")
        assert back is not None
        assert (back.current, back.to) == (2, 1)
        promote(registry, 3)
        with pytest.raises(RegistryError, match="was moved meanwhile and is version 3 now"):
            registered.move("XAGUSD", back, actor="dashboard", reason="late")
        now = registered.rollback_of("XAGUSD")
        assert now is not None

        def confirm(_: int) -> bool:
            try:
                registered.move("XAGUSD", now, actor="dashboard (me)", reason="in time")
            except RegistryError:
                return False
            return True

        with ThreadPoolExecutor(4) as clicks:
            assert sum(clicks.map(confirm, range(4))) == 1
        assert champion(registry) == 2  # one back, not as many as have clicked
        assert registered.history("XAGUSD")[0].actor == "dashboard (me)"


def test_after_a_wrong_password_even_the_right_one_waits_at_that_address(caplog: pytest.LogCaptureFixture) -> None:
    operator = Operator(PASSWORD)
    with pytest.raises(NotAllowed, match="got none"):
        operator.check("", address="10.0.0.1", now=10.0)
    operator.check(PASSWORD, address="10.0.0.1", now=10.0)
    with pytest.raises(NotAllowed, match="got another one"):
        operator.check("\ud800", address="10.0.0.1", now=10.0)  # no text that UTF-8 has
    with pytest.raises(NotAllowed, match="Wait 1 second, and"):
        operator.check(PASSWORD, address="10.0.0.1", now=10.9)
    operator.check(PASSWORD, address="10.0.0.2", now=10.9)
    operator.check(PASSWORD, address="10.0.0.1", now=10.0 + PAUSE_S)
    (line,) = [vars(record) for record in caplog.records if record.name == "lstm_ts.audit"]
    assert (line["event"], line["address"], line["left_out"]) == ("operator_refused", "10.0.0.1", 0)


def change(hour: int, action: str, before: int | None, after: int | None) -> AliasChange:
    return AliasChange(NOON + hour * HOUR, "XAGUSD", "champion", action, before, after, "me", "so", "done")


def test_a_reign_lasts_until_the_next_change_and_the_last_one_until_now() -> None:
    changes = [change(0, "promote", None, 1), change(2, "found", 1, None), change(3, "rollback", None, 1)]
    corners = step_line(changes, NOON + 5 * HOUR, BERLIN)
    assert [f"{x:%H}" for x in corners["x"]] == ["13", "15", "16", "18"]
    assert np.array_equal(corners["y"], [1, np.nan, 1, 1], equal_nan=True)
    drawn = marks(changes, BERLIN, {"": "black"})
    assert drawn["marker"] == ["triangle", "diamond", "inverted_triangle"]
    assert drawn["moved"] == ["- → 1", "1 → -", "- → 1"]
    assert drawn["at"][0] == "01 Jan 2026 13:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [
        (-0.2, 0.0004, "version 3 is better (p &lt; 0.001)"),
        (0.2, 0.04, "version 5 is better (p = 0.040)"),
        (-0.2, 0.051, "no proven difference (p = 0.051)"),
        (0.0, np.nan, "the same forecasts"),
        (0.2, np.nan, "too few hours to tell"),
    ],
)
def test_a_difference_is_claimed_only_where_the_test_allows_it(difference: float, p: float, words: str) -> None:
    assert difference_words(StepComparison(1, 900, (7.0, 7.0), 9.0, (0.8, 0.8), difference, p), 3, 5) == words


@pytest.mark.parametrize(
    ("aliases", "pair"),
    [
        ({1: "champion", 2: "challenger"}, (1, 2)),
        ({3: "champion"}, (3, 2)),
        ({1: "champion"}, (1, 3)),
        ({}, (3, 2)),
    ],
)
def test_the_champion_is_compared_with_its_challenger_or_the_newest_other(
    aliases: dict[int, str], pair: tuple[int, int]
) -> None:
    held = {number: (alias,) for number, alias in aliases.items()}
    versions = [Version("XAGUSD", number, NOON, "", "", held.get(number, ()), {}) for number in (3, 2, 1)]
    assert choose_pair(versions) == pair
    assert choose_pair(versions[:1]) == (3, 3)
