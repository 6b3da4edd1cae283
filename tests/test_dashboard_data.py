"""The data page in a real browser, over real stores and a real ledger."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from browsing import PLACE, Dashboard, hidden_at_the_right, open_page, shown, violations
from playwright.sync_api import Browser, Page, expect
from processes import wait_for

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, PRICES, AnsweredSpan
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FRIDAY, SUNDAY = datetime(2015, 2, 27, 22, tzinfo=UTC), datetime(2015, 3, 1, 22, tzinfo=UTC)
NOON = datetime(2015, 3, 3, 12, tzinfo=UTC)  # a Tuesday; minutes are stored from Thursday to Thursday around it
EMPTY, WAITING, UNKNOWN = (NOON - 120 * MINUTE, 10), (NOON - 60 * MINUTE, 5), (NOON, 7)  # without bars: from, minutes
SOURCE = "synthetic test <minutes>"


def minutes_of(silver: Session) -> pl.DataFrame:
    spans = silver.spans(NOON.replace(hour=0) - 5 * DAY, NOON.replace(hour=0) + 3 * DAY)
    ts = spans.select(pl.datetime_ranges("opens", "closes", "1m", closed="left")).explode("opens")["opens"]
    for start, count in (EMPTY, WAITING, UNKNOWN):
        ts = ts.filter((ts < start) | (ts >= start + count * MINUTE))
    close = 16 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 2e-4, len(ts))))
    columns = {"ts": ts, "open": close - 0.001, "high": close + 0.003, "low": close - 0.004, "close": close}
    return pl.DataFrame(columns).with_columns(volume=None, spread=0.03).cast(BAR_SCHEMA)


@pytest.fixture(scope="module")
def raw(silver: Session, tmp_path_factory: pytest.TempPathFactory) -> BarStore:
    """Minutes, one of them revised, and what was answered for those that are not there."""
    folder = tmp_path_factory.mktemp("shown")
    raw = BarStore(folder / "data/raw/XAGUSD", BAR_SCHEMA)
    bars = minutes_of(silver)
    for given in (bars.with_columns(close=pl.when(pl.col("ts") == NOON - MINUTE).then("low").otherwise("close")), bars):
        with raw.upsert(SOURCE) as staging:
            staging.add(given)
    (proven, count), (waits, length) = EMPTY, WAITING
    told = [(proven, proven + count * MINUTE, "one"), (proven, proven + count * MINUTE, "other")]
    answers = [
        AnsweredSpan(start, end, NOON + DAY, by, 0)
        for start, end, by in [*told, (waits, waits + length * MINUTE, "one")]
    ]
    with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
        ledger.record_answers("XAGUSD", raw.id, SOURCE, answers)
    return raw


@pytest.fixture(scope="module")
def url(raw: BarStore) -> Iterator[str]:
    """Of the page; the symbol that it shows first has no bars."""
    with shown(Dashboard(raw.folder.parents[2], "http://127.0.0.1:9", "symbol=XAUUSD")) as dashboard:
        yield f"{dashboard.url}/?page=data"


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with open_page(browser, url) as page:
        expect(page.get_by_role("alert")).to_contain_text("No bars of XAUUSD are stored. Run python -m lstm_ts.ingest")
        page.get_by_label("Symbol").select_option("XAGUSD")
        yield page


def see_prices(page: Page, day: str = "2015-03-03") -> None:
    page.get_by_role("button", name="Prices", exact=True).click()
    page.get_by_label("Go to day").fill(day)
    page.keyboard.press("Enter")


def drawn(page: Page, kind: str) -> dict[str, Any]:
    """Columns of what the picture shows: `rect` (candlesticks) or `vstrip` (unknown time)."""
    found: dict[str, Any] = page.evaluate(
        """kind => {
          const plot = Bokeh.documents[0].get_model_by_name("prices");
          const glyph = plot.renderers.find(each => each.glyph.type.toLowerCase() === kind);
          const columns = Object.entries(glyph.data_source.data).map(([name, all]) => [name, Array.from(all)]);
          return Object.fromEntries(columns);
        }""",
        kind,
    )
    return found


def milliseconds(ts: datetime) -> float:
    return 1000 * ts.timestamp()


def labels(page: Page) -> list[str]:
    """Of the lower axis, from left to right, those that are drawn."""
    told: list[str] = page.evaluate(
        """() => {
          const {x_range, below: [axis]} = Bokeh.documents[0].get_model_by_name("prices");
          const {major} = axis.ticker.get_ticks(x_range.start, x_range.end, x_range, 0);
          return axis.formatter.doFormat(major.sort((left, right) => left - right), {axis});
        }"""
    )
    return told


def readout(page: Page) -> tuple[str, bool]:
    """What stands above the picture, and whether it is wider."""
    text, wider = page.evaluate(
        """() => {
          const plot = Bokeh.documents[0].get_model_by_name("prices");
          const {text, text_font, text_font_size} = plot.above.find(each => each.type === "Title");
          const pen = document.createElement("canvas").getContext("2d");
          pen.font = `${text_font_size} ${text_font}`;
          const isRelative = text_font_size.endsWith("em");  // to the page's size, which a canvas does not know
          return [text, isRelative || text.split("\\n").some(line => pen.measureText(line).width > plot.inner_width)];
        }"""
    )
    return text, wider


def test_an_empty_store_says_what_to_run_and_coverage_what_is_known_of_each_day(page: Page) -> None:
    expect(page.get_by_text("minutes are stored")).to_be_visible()
    expect(page.get_by_text("10 proven empty, 5 empty by one answer, 7 unknown.").first).to_be_visible()
    expect(page.get_by_text("You need not act")).to_be_visible()
    expect(page.get_by_text(f"The bars come from {SOURCE}.")).to_contain_text("Wed 04 Mar 2015 13:00 (Europe/Berlin)")
    tuesday = page.locator(".calendar td", has=page.get_by_text("3", exact=True))
    expect(tuesday).to_have_text("3✓1,358∅10…5?7")
    expect(page.locator(".calendar td").nth(6)).to_have_text("1✓60")  # a Sunday
    unknown = page.get_by_role("region", name="Unknown").locator("tbody tr")
    expect(unknown).to_have_count(1)
    expect(unknown.locator("td")).to_have_text(["2015-03-03 12:00", "2015-03-03 12:07", "7"])
    gaps = page.get_by_role("region", name="Largest gaps").locator("tbody tr")
    assert [gap.locator("td").nth(2).inner_text() for gap in gaps.all()] == ["10", "7", "5"]
    revised = page.get_by_role("region", name="Bars that came again").locator("tbody td").all_inner_texts()
    assert revised[0] == "2015-03-03 11:59"
    assert float(revised[2].split()[3]) - float(revised[1].split()[3]) == pytest.approx(0.004, abs=1e-4)
    page.get_by_label("Month").select_option(index=1)
    expect(page.get_by_text("Minutes of each day of 2015-02")).to_be_visible()
    expect(page.locator(".calendar td").nth(33)).to_have_text("28closed")


def test_prices_are_candlesticks_of_the_width_that_there_is_room_for(page: Page, raw: BarStore) -> None:
    see_prices(page)
    expect(page.get_by_text("03 Mar 2015 00:00 to 04 Mar 2015 00:00 UTC")).to_contain_text("for every 15 minutes")
    unknown = drawn(page, "vstrip")
    assert len(unknown["start"]) == 1
    assert unknown["end"][0] - unknown["start"][0] == pytest.approx(7)  # minutes of open market
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").focus()
        page.keyboard.press("Enter")
    expect(page.get_by_text("10:47 to 03 Mar 2015 12:13 UTC. A candlestick for every minute.")).to_be_visible()
    stored = raw.read(NOON - 116 * MINUTE, NOON + 56 * MINUTE)  # half of what is seen is drawn on either side
    wait_for(lambda: drawn(page, "rect")["ts"] == [milliseconds(ts) for ts in stored["ts"]], 20)
    candles = drawn(page, "rect")
    assert [candles[price] for price in PRICES] == [stored[price].to_list() for price in PRICES]
    page.get_by_role("button", name="Later").click()
    expect(page.get_by_text("03 Mar 2015 11:30 to 03 Mar 2015 12:56 UTC")).to_be_visible()
    page.get_by_role("button", name="Whole span").click()
    expect(page.get_by_text("26 Feb 2015 00:00 to")).to_contain_text("for every hour")


def test_a_weekend_has_no_room_and_what_a_candle_is_stands_above_all_of_them(page: Page) -> None:
    page.get_by_role("button", name="Prices", exact=True).click()
    expect(page.get_by_text("26 Feb 2015 00:00 to")).to_be_visible()
    wait_for(lambda: max(np.diff(drawn(page, "rect")["ts"])) > milliseconds(SUNDAY) - milliseconds(FRIDAY), 20)
    candles = drawn(page, "rect")
    assert max(np.diff(candles["x"])) <= 120
    told = labels(page)
    assert len(set(told)) == len(told) >= 4
    assert "Sun 01\nMar 2015" in told  # it opens in the evening
    at, above = len(candles["x"]) // 2, "Bokeh.documents[0].get_model_by_name('prices').above[0].text"
    place = [candles["x"][at], candles["close"][at]]
    page.mouse.move(*page.wait_for_function(PLACE, arg=place).json_value())
    page.wait_for_function(f"{above}.includes('C {candles['close'][at]:.3f}')")
    assert f"{datetime.fromtimestamp(candles['ts'][at] / 1000, UTC):%H:%M} UTC)" in page.evaluate(above)
    expect(page.locator(".bk-Tooltip")).to_have_count(0)


def test_a_hand_that_drags_sees_where_it_is_and_a_day_that_is_not_stored_is_refused(page: Page) -> None:
    see_prices(page, "yesterday")
    expect(page.get_by_role("alert")).to_contain_text("Expected a day such as 2015-03-05, got yesterday.")
    see_prices(page, "2014-03-03")
    expect(page.get_by_role("alert")).to_contain_text("Stored are 2015-02-26 to 2015-03-05")
    see_prices(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("03 Mar 2015 00:00 to 04 Mar 2015 00:00 UTC")).to_be_visible()
    wait_for(lambda: drawn(page, "rect")["ts"][0] > milliseconds(NOON - 2 * DAY), 20)  # words may come before it
    before = drawn(page, "rect")["ts"][0]
    box = page.locator(".bk-Figure").bounding_box()
    assert box
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 700, box["y"] + 200, steps=20)
    page.mouse.up()
    expect(page.get_by_text("02 Mar 2015 14:")).to_be_visible()
    wait_for(lambda: drawn(page, "rect")["ts"][0] < before, 20)
    expect(page.get_by_label("Go to day")).to_have_value("2015-03-02")  # it follows
    page.get_by_role("button", name="Later").click()
    expect(page.get_by_label("Go to day")).to_have_value("2015-03-03")
    page.get_by_label("Go to day").fill("2015-03-")
    page.get_by_role("button", name="Earlier").dispatch_event("click")  # whose answer comes while the day is typed
    page.wait_for_function("day => [...Bokeh.index.query(({model}) => model.value === day)].length", arg="2015-03-02")
    expect(page.get_by_label("Go to day")).to_have_value("2015-03-")
    page.keyboard.type("03")
    page.keyboard.press("Enter")
    expect(page.get_by_text("03 Mar 2015 00:00 to 04 Mar 2015 00:00 UTC")).to_be_visible()
    page.get_by_label("Go to day").focus()
    page.keyboard.press("Enter")  # the same day again
    expect(page.get_by_text("03 Mar 2015 00:00 to 04 Mar 2015 00:00 UTC")).to_be_visible()
    see_prices(page, "2015-02-28")
    expect(page.get_by_role("status")).to_contain_text("on: the market is closed on 2015-02-28.")
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_both_views_are_accessible_and_fit_the_screen(browser: Browser, url: str, width: int, dark: bool) -> None:
    with open_page(browser, url, width=width, dark=dark) as page:
        page.get_by_label("Symbol").select_option("XAGUSD")
        expect(page.locator(".calendar")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert hidden_at_the_right(page) == []
        see_prices(page)
        expect(page.get_by_text("03 Mar 2015 00:00 to 04 Mar 2015 00:00 UTC")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wait_for(lambda: "Mar 2015" in readout(page)[0])
        told, wider = readout(page)
        assert (told.split()[-2:], wider) == (["spread", "0.030"], False)


def test_minutes_are_seen_once_they_are_stored(page: Page, raw: BarStore) -> None:
    see_prices(page, "2015-03-05")
    expect(page.get_by_text("05 Mar 2015 00:00 to")).to_be_visible()
    last = raw.read().tail(1).with_columns(pl.col("ts") + 2 * DAY)
    with raw.upsert(SOURCE) as staging:
        staging.add(last)
    said = page.get_by_text(f"to {last['ts'][0] + MINUTE:%d %b %Y %H:%M} UTC")
    whole = page.get_by_role("button", name="Whole span")
    wait_for(lambda: whole.click() or said.count())
