"""The first page in a real browser, over a real service and real stores."""

import csv
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import panel as pn
import polars as pl
import pytest
from bokeh.document import Document
from bokeh.server.connection import ServerConnection
from browsing import LATE, PLACE, Dashboard, click_at, delay_answers, hidden_at_the_right, open_page, shown, violations
from panel.io.state import set_curdoc
from panel.util import edit_readonly
from playwright.sync_api import Browser, Locator, Page, expect
from processes import stopped, wait_for
from serving import HORIZON, TSTEPS, Server, make_servable, registry_of, running
from test_configs import compose
from test_registry import promote, register
from tornado.websocket import WebSocketClosedError

from dashboard import shell
from dashboard.forecast.upload import ORIGINS
from dashboard.headers import HEADERS
from dashboard.login import PasswordProvider
from dashboard.server import auth_of, check, is_real_error, set_up_panel
from dashboard.ui.loading import WAIT_S, loading
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.prices import Quote, price_format
from lstm_ts.market.session import HOUR, Session
from lstm_ts.store.bar_store import BarStore

pytestmark = pytest.mark.browser
KEY = "ключ"


@pytest.fixture(scope="module")
def folder(empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A champion and a store of bars."""
    return make_servable(tmp_path_factory.mktemp("shown"), empty, hourly_bars, silver, source="synthetic test hours")


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[tuple[Server, Dashboard]]:
    """Both at once; the dashboard's key ends as a line of a file does."""
    with (
        running(Server(folder, keys=f"of-the-tests,{KEY}")) as server,
        shown(Dashboard(folder, str(server.client.base_url), key=f"{KEY}\n")) as dashboard,
    ):
        wait_for(lambda: server.health().ready)
        yield server, dashboard


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    with open_page(browser, dashboard.url) as page:
        yield page


def choose(page: Page, way: str) -> None:
    page.get_by_role("button", name=way, exact=True).first.click()  # an upload that is being removed has one, too


def path_rows(page: Page) -> Locator:
    """Rows of the table of all steps, which is folded."""
    return page.locator("details tbody tr")


def forecast_of(page: Page) -> list[list[str]]:
    """Cells of the table of the path."""
    rows = path_rows(page)
    expect(rows).to_have_count(HORIZON)
    return [row.locator("td").all_text_contents() for row in rows.all()]


def figure_of(page: Page, name: str) -> Locator:
    """The figure that is so called, of those above the chart."""
    return page.locator(".figures > div").filter(has=page.locator("dt", has_text=name))


def type_over(cell: Locator, text: str) -> None:
    """A table that is just being drawn takes no click."""
    wait_for(lambda: cell.click() or cell.locator("input").count())
    cell.page.keyboard.type(text)


def write_csv(path: Path, bars: pl.DataFrame) -> Path:
    time = pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time")
    bars.select(time, "open", "high", "low", "close").write_csv(path)
    return path


def upload(page: Page, path: Path) -> None:
    choose(page, "Upload")
    page.locator("input[type=file]").set_input_files(path)


def test_the_latest_forecast_is_the_services_with_times_here_and_in_utc(
    page: Page, service: Server, tmp_path: Path
) -> None:
    rows = forecast_of(page)
    reply = service.client.get("/forecast", params={"symbol": "XAGUSD"}).json()
    prices = price_format(Quote("USD", 3), reply["last_close"])
    assert [row[2] for row in rows] == [prices.number(step["price"]) for step in reply["path"]]
    assert {row[5] for row in rows} == {prices.number(reply["last_close"])}
    target = datetime.fromisoformat(reply["path"][0]["target_ts"])
    assert f"{target:%H:%M} UTC" in rows[0][1]
    assert f"{(target.hour + 2) % 24:02d}:{target:%M}" in rows[0][1]  # Berlin in May
    expect(page.get_by_text("live is not known: no outcome of version 1 is scored yet")).to_be_visible()
    expect(page.get_by_text("Stale input")).to_be_visible()
    expect(page.get_by_text("older ones are under Data, Prices")).to_be_visible()
    expect(page.get_by_text("/forecast?symbol=XAGUSD")).to_contain_text('-H "X-API-Key: $LSTM_TS_API_KEY"')
    assert KEY not in page.content()
    with page.expect_download() as download:
        page.get_by_text("Forecast as CSV").click()
    download.value.save_as(tmp_path / "forecast.csv")
    lines = list(csv.DictReader((tmp_path / "forecast.csv").read_text().splitlines()))
    assert float(lines[-1]["median"]) == pytest.approx(reply["path"][-1]["price"], abs=1e-6)
    with page.expect_download() as download:
        page.get_by_text("Forecast as JSON").click()
    download.value.save_as(tmp_path / "forecast.json")
    assert json.loads((tmp_path / "forecast.json").read_text())["path"] == reply["path"]


@pytest.mark.slow
def test_new_bars_are_shown_when_they_are_stored(
    page: Page, folder: Path, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    before = forecast_of(page)
    last = hourly_bars.tail(1).with_columns(ts=pl.lit(silver.next_hours(hourly_bars["ts"][-1], 1)[0]))
    with BarStore(folder / "data/processed/XAGUSD", HOURLY_SCHEMA).upsert("synthetic test hours") as staging:
        staging.add(last.select(HOURLY_SCHEMA.names()).cast(HOURLY_SCHEMA))
    expect(path_rows(page).first).not_to_contain_text(before[0][1][:21])


def test_the_first_screen_answers_and_a_click_on_the_fan_chooses_the_step(page: Page, service: Server) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    forecast_of(page)
    reply = service.client.get("/forecast", params={"symbol": "XAGUSD"}).json()
    prices = price_format(Quote("USD", 3), reply["last_close"])
    below = page.evaluate(PLACE, [0, reply["last_close"]])[1]
    page.evaluate("scrollTo(0, 0)")
    for shown_first in (page.locator(".figures"), page.locator(".bk-Figure").first):
        box = shown_first.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 800
    assert below < 800
    warning = page.locator(".flags").bounding_box()
    assert warning and warning["height"] < 40  # one line
    expect(page.locator("details table")).not_to_be_visible()
    for step in (HORIZON, 2):
        its = reply["path"][step - 1]
        if step != HORIZON:
            click_at(page, step, its["price"])
        interval = f"{prices.number(its['lower_80'])} to {prices.number(its['upper_80'])}"
        expect(figure_of(page, f"80 % interval, {step} h ahead")).to_contain_text(interval)
        expect(figure_of(page, f"Median, {step} h ahead")).to_contain_text(prices.amount(its["price"]))
    page.get_by_label("Session hours ahead").select_option(index=0)  # by keyboard
    expect(figure_of(page, "Median, 1 h ahead")).to_contain_text(prices.amount(reply["path"][0]["price"]))
    expect(figure_of(page, "Version of XAGUSD")).to_contain_text("champion")
    page.locator("summary").click()
    expect(page.locator("details table")).to_be_visible()
    assert violations(page) == []


def test_one_crosshair_reads_the_hours_and_the_fan(page: Page, service: Server) -> None:
    forecast_of(page)
    reply = service.client.get("/forecast", params={"symbol": "XAGUSD"}).json()
    prices, tip = price_format(Quote("USD", 3), reply["last_close"]), page.locator(".bk-Tooltip")
    page.mouse.move(*page.wait_for_function(PLACE, arg=[-2, reply["last_close"]]).json_value())
    expect(tip.filter(has_text="Open")).to_contain_text("Volume")
    expect(tip.filter(has_text="Open")).to_have_css("background-color", "rgb(36, 40, 44)")  # dark in both themes
    page.mouse.move(*page.wait_for_function(PLACE, arg=[2, reply["last_close"]]).json_value())
    step = reply["path"][1]
    told = tip.filter(has_text="Median")
    expect(told).to_contain_text(f"{prices.number(step['lower_80'])} to {prices.number(step['upper_80'])}")
    expect(told).to_contain_text("Persistence")
    expect(told).to_contain_text(f"{datetime.fromisoformat(step['target_ts']):%H:%M} UTC")


def test_the_wheel_shows_more_history(page: Page, service: Server) -> None:
    forecast_of(page)
    last = service.client.get("/forecast", params={"symbol": "XAGUSD"}).json()["last_close"]
    start = "Bokeh.documents[0].get_model_by_name('fan').x_range.start"
    page.mouse.move(*page.wait_for_function(PLACE, arg=[0, last]).json_value())
    before = page.evaluate(start)
    page.mouse.wheel(0, 500)
    page.wait_for_function(f"{start} < {before} - 5")
    for _ in range(8):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(50)
    assert page.evaluate(f"{start.removesuffix('start')}end - {start}") >= 6
    page.get_by_role("button", name="Last hours").click()
    page.wait_for_function(f"{start} == {before}")
    # From a view far left of it, to which the server moves edge by edge.
    page.evaluate(f"{start.removesuffix('.start')}.setv({{start: {before - 30}, end: {before - 20}}})")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Last hours").click()
    page.wait_for_function(f"{start} == {before} && {start.removesuffix('start')}end > 0")
    page.get_by_role("button", name="More history").click()
    page.wait_for_function(f"{start} < {before} - 5")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_the_interval_first(browser: Browser, dashboard: Dashboard, dark: bool) -> None:
    with open_page(browser, dashboard.url, width=390, dark=dark) as page:
        forecast_of(page)
        heights = {
            name: (figure_of(page, name).bounding_box() or {"y": 0})["y"] for name in ("80 %", "Last price", "Median")
        }
        assert min(heights, key=lambda name: heights[name]) == "80 %"
        assert heights["80 %"] < 300
        page.locator("summary").click()
        first = path_rows(page).first
        labels = first.evaluate("row => [...row.cells].map(cell => getComputedStyle(cell, '::before').content)")
        assert labels[0] == '"Hour"' and labels[3] == '"bps"'  # a card, not a row cut off
        assert hidden_at_the_right(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 768, "height": 1024})
        assert hidden_at_the_right(page) == []
        assert violations(page) == []


def test_typed_hours_are_checked_cell_by_cell_and_only_then_sent(page: Page, service: Server) -> None:
    latest = forecast_of(page)
    choose(page, "Type it in")
    expect(page.get_by_text(f"{TSTEPS} session hours are needed")).to_be_visible()
    row = page.locator(".tabulator-row").nth(1)
    cell, wrong = row.locator(".tabulator-cell").nth(3), row.locator("[tabulator-field='What is wrong']")
    right = cell.inner_text()
    type_over(cell, "1")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Row 2, High: 1 is below the low")).to_be_visible()
    expect(wrong).to_contain_text("High: 1 is below the low")
    expect(cell).to_have_css("background-color", "rgb(213, 94, 0)")
    asked = service.metric('lstm_ts_requests_total{arm="champion",route="/predict"')
    page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.get_by_text("Nothing was sent")).to_be_visible()
    assert service.metric('lstm_ts_requests_total{arm="champion",route="/predict"') == asked
    type_over(cell, right)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Row 2, High")).to_have_count(0)
    expect(wrong).to_have_text("")
    page.get_by_role("button", name="Forecast", exact=True).click()
    assert forecast_of(page) == latest


def test_what_is_wrong_in_one_cell_leaves_the_next_one_to_its_typist(page: Page) -> None:
    forecast_of(page)
    choose(page, "Type it in")
    cells = page.locator(".tabulator-row").nth(1).locator(".tabulator-cell")
    type_over(cells.nth(3), "1")
    page.keyboard.press("Tab")
    page.keyboard.type("29")
    expect(page.get_by_text("Row 2, High: 1 is below the low")).to_be_visible()
    expect(cells.nth(3)).to_have_css("background-color", "rgb(213, 94, 0)")
    page.keyboard.type(".5")
    page.keyboard.press("Enter")
    expect(cells.nth(4)).to_have_text("29.5")


def test_the_tab_key_leads_out_of_the_table_at_both_ends(page: Page, hourly_bars: pl.DataFrame) -> None:
    choose(page, "Type it in")
    expect(page.get_by_text(f"{TSTEPS} session hours are needed")).to_be_visible()
    rows = page.locator(".tabulator-row")
    type_over(rows.first.locator("[tabulator-field^=Hour]"), "1")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_label("Paste rows")).to_be_focused()
    table, last = page.locator(".tabulator-tableholder"), f"{hourly_bars['ts'][-1]:%Y-%m-%d %H:%M}"
    wait_for(lambda: table.evaluate("table => { table.scrollTop = 1e6 }") or last in rows.last.inner_text())
    type_over(rows.last.locator("[tabulator-field=Close]"), "1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Forecast", exact=True)).to_be_focused()


KEY_MS = 80  # between two keys


@pytest.mark.parametrize("delay_ms", [300, *(pytest.param(ms, marks=pytest.mark.slow) for ms in (0, 50, 2000))])
def test_what_is_typed_stays_however_late_the_server_answers(
    browser: Browser, dashboard: Dashboard, tmp_path: Path, delay_ms: int
) -> None:
    with open_page(browser, dashboard.url, script=LATE) as page:
        forecast_of(page)
        delay_answers(page, delay_ms)  # the table's stylesheets, too, of which each draws it again
        choose(page, "Type it in")
        rows, key = page.locator(".tabulator-row"), page.keyboard

        def field(row: int, column: str) -> Locator:
            return rows.nth(row).locator(f".tabulator-cell[tabulator-field='{column}']")

        def type_into(row: int, column: str, *texts: str, end: str) -> None:
            """Over the cell and those that the Tab key leads to."""
            wait_for(lambda: field(row, column).click() or field(row, column).locator("input").count())
            for number, text in enumerate(texts, start=1):
                key.type(text, delay=KEY_MS)
                key.press(end if number == len(texts) else "Tab")

        type_into(1, "High", "1", "0.5", "0.75", end="Tab")
        key.press("Enter")
        type_into(1, "Open", "0.8", end="Enter")
        choose(page, "Add a row")
        type_into(3, "High", "1234.5", end="Enter")  # before the row is there
        expect(rows).to_have_count(TSTEPS + 1)
        for column, text in {"Open": "0.8", "High": "1", "Low": "0.5", "Close": "0.75"}.items():
            expect(field(1, column)).to_have_text(text)
        expect(field(3, "High")).to_have_text("1234.5")
        page.get_by_role("button", name="Forecast", exact=True).click()
        forecast_of(page)
        with page.expect_download() as download:
            page.get_by_text("Window as JSON").click()
        download.value.save_as(tmp_path / "window.json")
        bars = json.loads((tmp_path / "window.json").read_text())["bars"]
        assert [bars[1][price] for price in ("open", "high", "low", "close")] == [0.8, 1, 0.5, 0.75]
        assert bars[3]["high"] == 1234.5
        choose(page, "Latest hours again")
        type_into(5, "Low", "0.25", end="Enter")  # before they are there
        expect(rows).to_have_count(TSTEPS)
        expect(field(1, "High")).not_to_have_text("1")
        expect(field(5, "Low")).to_have_text("0.25")


def test_rows_from_a_spreadsheet_take_the_tables_place(page: Page, hourly_bars: pl.DataFrame) -> None:
    choose(page, "Type it in")
    opens = page.locator(".tabulator-row .tabulator-cell[tabulator-field=Open]")
    expect(opens.first).to_be_visible()
    area = page.get_by_label("Paste rows")
    older, newer = hourly_bars.tail(TSTEPS - 2), hourly_bars.tail(TSTEPS).head(TSTEPS - 2)
    for last in (older, newer, newer):  # fewer rows; as many; the same, after those of the store
        rows = [f"{ts:%d.%m.%Y %H:%M}\t{o}\t{h}\t{lo}\t{c}" for ts, o, h, lo, c in last.select(
            "ts", "open", "high", "low", "close").iter_rows()]  # fmt: skip
        area.fill("\n".join(["Time\tOpen\tHigh\tLow\tClose", *rows]))
        area.blur()
        expect(opens.first).to_have_text(str(last["open"][0]))
        lack = f"{TSTEPS} session hours are needed, these rows span {TSTEPS - 2}: add earlier ones."
        expect(page.get_by_text(lack, exact=True)).to_be_visible()
        expect(area).to_have_value("")
        if last is older:
            choose(page, "Forecast")
            expect(page.get_by_text(f"Nothing was sent: {lack}")).to_be_visible()
        else:
            choose(page, "Latest hours again")
            expect(opens).to_have_count(TSTEPS)
    choose(page, "Forecast")
    forecast_of(page)
    area.fill("\n".join(rows))
    area.blur()
    expect(page.get_by_text("The forecast below is of other rows")).to_be_visible()
    choose(page, "Latest hours again")
    expect(page.get_by_text("The forecast below is of other rows")).to_have_count(0)
    area.fill("Stunde\tSchluss\n2022-12-28 00:00\t1")
    area.blur()
    expect(page.get_by_text("Expected a header that names open")).to_be_visible()


@pytest.mark.slow
def test_an_uploaded_file_is_scored_against_what_came_next(
    page: Page, hourly_bars: pl.DataFrame, service: Server, tmp_path: Path
) -> None:
    upload(page, write_csv(tmp_path / "hours.csv", hourly_bars))
    expect(page.get_by_text("separated by commas (time, open, high, low, close)")).to_be_visible()
    expect(page.get_by_text("The file ends here")).to_be_visible()
    page.get_by_label("Forecast made at").select_option(index=HORIZON)
    expect(page.get_by_text(f"Over the {HORIZON} hours that followed")).to_be_visible()
    window = hourly_bars.filter(pl.col("ts") < hourly_bars["ts"][-HORIZON]).tail(TSTEPS)
    bars = [{"ts": ts.isoformat(), "open": o, "high": h, "low": lo, "close": c} for ts, o, h, lo, c in window.select(
        "ts", "open", "high", "low", "close").iter_rows()]  # fmt: skip
    expected = service.ask(bars)
    prices = price_format(Quote("USD", 3), expected.last_close)
    assert [row[2] for row in forecast_of(page)] == [prices.number(step.price) for step in expected.path]
    expect(page.get_by_text("Stale input")).to_have_count(0)  # of hours that someone has chosen
    page.locator(".filepond--action-revert-item-processing").click()
    expect(page.locator(".figures")).to_have_count(0)
    expect(page.get_by_label("Forecast made at").locator("option")).to_have_count(0)


@pytest.mark.slow
def test_the_hour_of_a_forecast_is_chosen_on_the_files_chart(
    page: Page, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    upload(page, write_csv(tmp_path / "hours.csv", hourly_bars))
    expect(page.get_by_text("The file ends here")).to_be_visible()
    ts, close = hourly_bars.select("ts", "close").tail(ORIGINS).row(100)
    click_at(page, 100, close)
    expect(page.get_by_label("Forecast made at").locator("option:checked")).to_contain_text(
        f"{ts + HOUR:%d %b %H:%M} UTC"
    )
    expect(page.get_by_text("hours that followed")).to_be_visible()


@pytest.mark.slow
def test_a_service_that_dawdles_is_waited_for_in_sight(page: Page, service: Server) -> None:
    latest = forecast_of(page)
    for way in ("Type it in", "Forecast"):
        with stopped(*service.everyone()):
            choose(page, way)
            expect(page.locator(".pn-loading").first).to_be_visible()
        expect(page.locator(".pn-loading")).to_have_count(0)
    assert forecast_of(page) == latest


@pytest.mark.slow
def test_rows_that_are_pasted_while_the_service_dawdles_stay(
    page: Page, service: Server, hourly_bars: pl.DataFrame
) -> None:
    forecast_of(page)
    area, rows = page.get_by_label("Paste rows"), page.locator(".tabulator-row")
    with stopped(*service.everyone()):
        choose(page, "Type it in")
        expect(page.get_by_text("takes too long to answer")).to_be_visible()
        expect(page.locator(".pn-loading").first).to_be_visible()  # the page asks again
        bar = f"{hourly_bars['ts'][-1]:%Y-%m-%d %H:%M},30,31,29,30"
        area.fill(f"Symbol,Time,Open,High,Low,Close\nXAGUSD,{bar}\nSilver,{bar}")
        area.blur()
        expect(rows).to_have_count(1)
    expect(page.get_by_text("Rows of other symbols are left out: 1 of Silver.")).to_be_visible()
    page.wait_for_timeout(1500)  # for what might come late
    expect(rows).to_have_count(1)


@pytest.mark.slow
def test_what_is_pasted_while_the_latest_hours_are_asked_for_stays(page: Page, service: Server) -> None:
    forecast_of(page)
    choose(page, "Type it in")
    area, rows = page.get_by_label("Paste rows"), page.locator(".tabulator-row")
    wrong, refusal = "Stunde\tSchluss\n2022-12-28 00:00\t1", page.get_by_text("Expected a header that names open")
    expect(rows).to_have_count(TSTEPS)
    for pasted, shown_rows in (("2022-12-28 00:00,30,31,29,30", 1), (wrong, TSTEPS)):
        with stopped(*service.everyone()):
            choose(page, "Latest hours again")
            expect(page.locator(".pn-loading").first).to_be_visible()
            area.fill(pasted)
            area.blur()
            expect(refusal if pasted is wrong else rows).to_have_count(1)
        expect(page.locator(".pn-loading")).to_have_count(0)
        page.wait_for_timeout(1500)  # for what might come late
        expect(rows).to_have_count(shown_rows)
    expect(area).to_have_value(wrong)
    expect(refusal).to_be_visible()
    choose(page, "Latest hours again")
    expect(area).to_have_value("")
    expect(refusal).to_have_count(0)


@pytest.mark.slow
def test_a_file_that_is_removed_while_it_is_read_is_silent(
    page: Page, service: Server, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "hours.csv", hourly_bars)
    upload(page, path)
    expect(page.get_by_text("The file ends here")).to_be_visible()
    with stopped(*service.everyone()):
        page.get_by_label("Forecast made at").select_option(index=3)
        expect(page.locator(".pn-loading").first).to_be_visible()
        expect(page.locator(".figures")).to_have_count(0)  # those of another hour
        page.locator(".filepond--action-revert-item-processing").click()
        expect(page.get_by_text("The file ends here")).not_to_be_visible()
        upload(page, path)
        expect(page.get_by_text("rows read…")).to_be_visible()
        page.locator(".filepond--action-revert-item-processing").click()
        expect(page.get_by_text("rows read…")).to_have_count(0)
        page.wait_for_timeout(7000)  # longer than service.timeout_s
        expect(page.get_by_text("takes too long to answer")).to_have_count(0)


@pytest.mark.slow
def test_a_wrong_zone_is_explained_and_can_be_changed(page: Page, hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    local = hourly_bars.with_columns(ts=pl.col("ts") + 7 * HOUR)
    upload(page, write_csv(tmp_path / "hours.csv", local))
    expect(page.get_by_text("Choose another zone")).to_be_visible()
    page.get_by_label("Zone of the file's stamps").select_option("Asia/Bangkok")
    expect(page.get_by_text("stamps taken as Asia/Bangkok")).to_be_visible()
    forecast_of(page)
    tokyo = hourly_bars.select((pl.col("ts") + 9 * HOUR).dt.epoch("s").alias("time"), "open", "high", "low", "close")
    tokyo.write_csv(tmp_path / "epochs.csv")
    page.locator("input[type=file]").set_input_files(tmp_path / "epochs.csv")
    expect(page.get_by_text("Choose another zone")).to_be_visible()
    page.get_by_label("Zone of the file's stamps").select_option("Asia/Tokyo")
    expect(page.get_by_text("stamps taken as Asia/Tokyo")).to_be_visible()


@pytest.mark.slow
def test_of_several_choices_in_a_row_the_last_one_is_shown(
    page: Page, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    both = "([first, last]) => { first.click(); last.click(); }"
    latest, typed, upload = (
        page.get_by_role("button", name=way, exact=True) for way in ("Latest", "Type it in", "Upload")
    )
    handles = [typed.element_handle(), upload.element_handle()]
    for _ in range(5):
        page.evaluate(both, handles)
    expect(page.locator("input[type=file]")).to_have_count(1)
    page.wait_for_timeout(1500)  # what comes late draws another input, without the file
    page.locator("input[type=file]").set_input_files(write_csv(tmp_path / "hours.csv", hourly_bars))
    expect(page.get_by_text("stamps taken as UTC")).to_be_visible()
    zone = page.get_by_label("Zone of the file's stamps")
    for name in ("Asia/Bangkok", "Europe/London", "Asia/Tokyo", "America/New_York", "UTC"):
        zone.select_option(name)
    page.wait_for_timeout(1500)  # for what might come late
    expect(page.get_by_text("stamps taken as UTC")).to_be_visible()
    expect(page.get_by_text("Choose another zone")).to_have_count(0)
    expect(page.get_by_role("button", name="Latest hours again", exact=True)).to_have_count(0)
    latest.click()
    forecast_of(page)


@pytest.mark.slow
def test_dates_that_do_not_tell_are_asked_for(page: Page, hourly_bars: pl.DataFrame, tmp_path: Path) -> None:
    time = pl.col("ts").dt.strftime("%d/%m/%Y %H:%M").alias("time")
    bars = hourly_bars.filter(pl.col("ts").dt.day() <= 12).select(time, "open", "high", "low", "close")
    bars.write_csv(tmp_path / "hours.csv")
    upload(page, tmp_path / "hours.csv")
    expect(page.get_by_text("Choose whether the day or the month comes first")).to_be_visible()
    expect(page.get_by_label("Dates such as").locator("option:checked")).to_have_text("as the file tells")
    page.get_by_label("Dates such as").select_option("day first")
    expect(page.get_by_text("stamps taken as UTC")).to_be_visible()
    forecast_of(page)


@pytest.mark.slow
def test_bars_stamped_at_their_close_are_shifted_on_request(
    page: Page, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    upload(page, write_csv(tmp_path / "hours.csv", hourly_bars.with_columns(pl.col("ts") + HOUR)))
    expect(page.get_by_text("or that its bars are stamped when they close")).to_be_visible()
    page.get_by_label("Bars are stamped").select_option("close")
    expect(page.get_by_text("stamps taken as UTC")).to_be_visible()
    forecast_of(page)


@pytest.mark.slow
def test_a_killed_service_is_said_and_its_return_is_seen(
    browser: Browser, folder: Path, hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    with running(Server(folder)) as first:
        url, port = str(first.client.base_url), first.client.base_url.port
        with (
            shown(Dashboard(folder, url)) as dashboard,
            open_page(browser, dashboard.url) as page,
            open_page(browser, dashboard.url) as typing,
        ):
            wait_for(lambda: first.health().ready)
            choose(typing, "Type it in")
            expect(typing.get_by_text(f"{TSTEPS} session hours are needed")).to_be_visible()
            choose(typing, "Forecast")
            before = forecast_of(page)
            assert forecast_of(typing) == before
            for pid in (*first.children(), first.process.pid):
                os.kill(pid, signal.SIGKILL)
            expect(page.get_by_text("does not answer. Start it (make serve)")).to_be_visible()
            assert forecast_of(page) == before  # still true of its bars
            choose(page, "Type it in")
            choose(page, "Latest")  # at once, while the other is made
            choose(typing, "Latest hours again")
            expect(typing.get_by_text("does not answer").last).to_be_visible()
            expect(typing.locator(".figures")).to_be_visible()
            choose(typing, "Forecast")
            expect(typing.locator(".figures")).to_have_count(0)
            expect(typing.get_by_text("does not answer").last).to_be_visible()
            upload(typing, write_csv(tmp_path / "hours.csv", hourly_bars))
            expect(typing.get_by_text("does not answer")).to_be_visible()
            with running(Server(folder, f"port={port}")):
                expect(page.get_by_text("does not answer")).to_have_count(0, timeout=40_000)
                assert forecast_of(page) == before
                wait_for(lambda: first.health().ready)  # at the same address
                expect(typing.get_by_text("stamps taken as UTC")).to_be_visible()
                choose(typing, "Type it in")
                choose(typing, "Forecast")
                assert forecast_of(typing) == before
                expect(typing.get_by_text("does not answer")).to_have_count(0)
                choose(page, "Type it in")  # whose table was made while nobody answered
                expect(page.get_by_text(f"{TSTEPS} session hours are needed")).to_be_visible()
                expect(page.get_by_text("does not answer")).to_have_count(0)


@pytest.mark.slow
def test_a_wrong_key_and_no_champion_are_said_in_words(
    browser: Browser, empty: Path, folder: Path, service: Server, tmp_path: Path
) -> None:
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    with registry_of(tmp_path) as registry, running(Server(tmp_path)) as unready:
        register(registry, folder / "model")
        with (
            shown(Dashboard(tmp_path, str(unready.client.base_url))) as dashboard,
            shown(Dashboard(folder, str(service.client.base_url), key="wrong")) as refused,
        ):
            with open_page(browser, refused.url) as page:
                expect(page.get_by_text("refuses this dashboard's key. Set LSTM_TS_API_KEY")).to_be_visible()
            with open_page(browser, dashboard.url) as page:
                told = page.get_by_text("The service has no forecast to give").last
                expect(told).to_contain_text("champion", timeout=60_000)  # the worker starts meanwhile
                promote(registry, 1)
                expect(page.get_by_text("an empty store; run python -m lstm_ts.process")).to_be_visible()


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, True), pytest.param(390, False, marks=pytest.mark.slow)]
)  # no colour depends on it
def test_every_way_in_is_accessible_and_fits_the_screen(
    browser: Browser, dashboard: Dashboard, hourly_bars: pl.DataFrame, tmp_path: Path, width: int, dark: bool
) -> None:
    with open_page(browser, dashboard.url, width=width, dark=dark) as page:
        forecast_of(page)
        assert violations(page) == []
        choose(page, "Type it in")
        page.get_by_role("button", name="Forecast", exact=True).click()
        forecast_of(page)
        assert violations(page) == []
        upload(page, write_csv(tmp_path / "hours.csv", hourly_bars))
        forecast_of(page)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        choose(page, "Type it in")
        expect(page.locator(".tabulator-row").first).to_be_visible()
        assert hidden_at_the_right(page) == []
        hour = page.locator(".tabulator-cell[tabulator-field^=Hour]").first
        type_over(hour, "2026-01-05 14:00:00")
        page.keyboard.press("Enter")
        expect(hour).to_have_text("2026-01-05 14:00:00")
        assert hour.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(18, 18, 18)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("zone", ["Etc/GMT+8", "Europe/Berlin"])
def test_a_page_is_laid_out_for_the_zone_that_its_cookie_names(dashboard: Dashboard, zone: str) -> None:
    cookie = {"Cookie": f"zone={quote(zone, safe='')}"}
    assert f'zone !== "{zone}"' in httpx.get(dashboard.url, headers=cookie, trust_env=False).text


def test_the_theme_is_switched_by_keyboard_and_kept(page: Page) -> None:
    forecast_of(page)
    page.get_by_role("button", name="Dark theme").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Light theme")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Light theme")).to_be_visible()


def test_a_page_whose_visitor_leaves_while_it_is_built_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    def build(_: object) -> Any:
        raise RecursionError  # Panel's, of a callback without a session

    view: Future[Any] = Future()
    with set_curdoc(Document()):
        shell._build(shell.Page("some", "Some", build), SimpleNamespace(), view)  # type: ignore[arg-type]
    assert not view.done()
    assert caplog.text == ""


def test_a_visitor_who_leaves_during_a_long_action_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    visit = Document()
    visit.on_change(print)
    with set_curdoc(visit), loading(SimpleNamespace(loading=False)):
        visit.destroy(print)
        time.sleep(1.5 * WAIT_S)
    assert errors == []


def test_a_visitor_who_leaves_is_no_error() -> None:
    def record(error: Exception) -> logging.LogRecord:
        return logging.makeLogRecord(
            {"msg": "Task exception was never retrieved", "exc_info": (type(error), error, error.__traceback__)}
        )

    assert not is_real_error(record(WebSocketClosedError()))
    assert is_real_error(record(OSError()))
    assert is_real_error(logging.makeLogRecord({"msg": "slow"}))
    session: Any = SimpleNamespace(subscribe=lambda _: None, unsubscribe=lambda _: None)
    nothing: Any = None
    connection = ServerConnection(nothing, nothing, nothing, session)
    connection.detach_session()
    with pytest.raises(AssertionError) as has_left:
        _ = connection.session
    set_up_panel(threads=2)
    for name in ("asyncio", "bokeh.server.protocol_handler"):  # a session closed twice, a change that came too late
        assert not logging.getLogger(name).filter(record(has_left.value))
    with pytest.raises(AssertionError) as other:
        raise AssertionError
    assert is_real_error(record(other.value))


def test_threads_that_are_busy_at_once_do_not_hinder_each_other() -> None:
    set_up_panel(threads=2)
    first, second = edit_readonly(pn.state), edit_readonly(pn.state)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    pn.state.busy = True
    pn.state.busy = False
    second.__exit__(None, None, None)


def test_another_hosts_name_is_refused_and_those_who_are_refused_fill_no_log(dashboard: Dashboard) -> None:
    for _ in range(20):
        reply = httpx.get(dashboard.url, headers={"Host": "evil.example"}, trust_env=False)
        assert reply.status_code == 403
    assert 0 < dashboard.log.read_text().count("403 GET /") <= 10


def test_an_open_address_needs_authentication() -> None:
    with pytest.raises(ConfigError, match=r"auth\.basic or auth\.oauth\.provider with host=0\.0\.0\.0"):
        auth_of(compose("dashboard", "host=0.0.0.0"))
    assert auth_of(compose("dashboard")) == {}
    given = auth_of(compose("dashboard", "host=0.0.0.0", "auth.basic=secret"))
    assert isinstance(given["auth_provider"], PasswordProvider)
    assert len(given["cookie_secret"]) == 64
    oauth = ("auth.oauth.provider=github", "auth.oauth.key=k", "auth.oauth.secret=s")
    assert auth_of(compose("dashboard", *oauth))["oauth_provider"] == "github"


PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def strict(
    folder: Path, started: tuple[Server, Dashboard], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Dashboard, Path]]:
    """With a password and low limits of uploads, and where it keeps them."""
    server, _ = started
    temporary = tmp_path_factory.mktemp("uploads")
    limits = ("upload.max_bytes=1000000", "upload.max_rows=50", "service.timeout_s=60")
    os.environ["TMPDIR"] = str(temporary)
    try:
        dashboard = Dashboard(folder, str(server.client.base_url), *limits, key=KEY, password=PASSWORD)
    finally:
        del os.environ["TMPDIR"]
    with shown(dashboard):
        yield dashboard, temporary
    assert not list(temporary.glob("lstm_ts_uploads_*"))


def log_in(page: Page) -> None:
    page.get_by_label("User name").fill("me")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


@pytest.mark.slow
def test_a_password_is_asked_for(browser: Browser, strict: tuple[Dashboard, Path]) -> None:
    dashboard, _ = strict
    reply = httpx.get(dashboard.url, trust_env=False)
    assert reply.status_code == 302
    assert "/login" in reply.headers["location"]
    with open_page(browser, dashboard.url) as page:
        assert violations(page) == []
        page.get_by_label("Password").fill("guess-1")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("Expected your user name and password")
        log_in(page)
        forecast_of(page)
    log = dashboard.log.read_text()
    assert "A wrong password from 127.0.0.1" in log
    assert "guess-1" not in log


@pytest.mark.slow
def test_a_page_that_waits_for_the_service_leaves_a_thread_for_clicks_and_is_shown_at_last(
    browser: Browser, strict: tuple[Dashboard, Path], service: Server
) -> None:
    with open_page(browser, f"{strict[0].url}/?page=data") as page:
        log_in(page)
        no_minutes = page.get_by_text("Hours of XAGUSD are stored, which Prices shows, but no minutes")
        expect(no_minutes).to_be_visible()
        slow, other = page.context.new_page(), page.context.new_page()
        with stopped(*service.everyone()):
            slow.goto(strict[0].url)
            other.goto(strict[0].url)
            slow.wait_for_timeout(3000)  # both have their scripts, and wait for what is built
            choose(page, "Prices")
            expect(page.get_by_role("button", name="Hours", exact=True)).to_be_visible(timeout=20_000)
            assert path_rows(slow).count() == 0
        forecast_of(slow)
        slow.close()
        other.close()


@pytest.mark.slow
def test_a_file_over_the_limit_is_refused_and_not_kept(
    browser: Browser, strict: tuple[Dashboard, Path], hourly_bars: pl.DataFrame, tmp_path: Path
) -> None:
    dashboard, temporary = strict
    (tmp_path / "much.csv").write_text("time,open,high,low,close\n" * 60_000)
    with open_page(browser, dashboard.url) as page:
        log_in(page)
        upload(page, tmp_path / "much.csv")
        expect(page.get_by_text("File is too large").first).to_be_visible()
        assert not list(temporary.glob("lstm_ts_uploads_*/*"))
        page.locator("input[type=file]").set_input_files(write_csv(tmp_path / "rows.csv", hourly_bars))
        expect(page.get_by_text("at most 50 rows")).to_be_visible()
        assert list(temporary.glob("lstm_ts_uploads_*/*"))
    wait_for(lambda: not list(temporary.glob("lstm_ts_uploads_*/*")), 60)


@pytest.mark.slow
def test_no_page_asks_another_host_for_anything_nor_breaks_its_own_policy(
    browser: Browser, dashboard: Dashboard
) -> None:
    with open_page(browser, "about:blank") as page:
        asked: list[str] = []
        refused: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url.replace("ws://", "http://")))
        page.on("console", lambda line: refused.append(line.text) if "Content Security" in line.text else None)
        for name in ("models", "data", "experiments", "forecast"):
            reply = page.goto(f"{dashboard.url}/?page={name}")
            assert reply
            assert {key: reply.headers[key.lower()] for key in HEADERS} == HEADERS
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            expect(page.get_by_text("Loading…")).to_have_count(0)
        for way in ("Type it in", "Upload"):
            choose(page, way)
            expect(page.locator(".tabulator-row, input[type=file]").first).to_be_attached()
        away = [url for url in asked if not url.startswith((f"{dashboard.url}/", "data:", "blob:", "about:"))]
        assert (away, refused) == ([], [])


@pytest.mark.parametrize(
    "option", ["threads=0", "poll_s=-1", "service.timeout_s=0", "upload.max_rows=0", "service.key='a\tb'"]
)
def test_a_value_out_of_range_is_named(option: str) -> None:
    with pytest.raises(ConfigError, match=option.split("=")[0]):
        check(compose("dashboard", option))
