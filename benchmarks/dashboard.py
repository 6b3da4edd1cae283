"""`python -m benchmarks.dashboard [NAME]`: what a visitor waits for, and what visitors cost.
`python -m benchmarks.dashboard minutes`: only the data page; `pages`: each page of the demo, by the browser's counters.

Over the stores under data/NAME and outputs/NAME (default: demo, as `make demo` leaves them), with a real service and
Chromium on this machine: all share its cores, so this is the worst case. The upload, and the
two million minutes of the data page, are synthetic.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from playwright.sync_api import Browser, Page, Request, sync_playwright

from benchmarks.serve import running
from dashboard.data.explorer import CANDLE_PX, WIDE_PX
from dashboard.data.zoom import candles_of, choose_width
from dashboard.ui.open_time import OpenTime
from lstm_ts.market.bars import BAR_SCHEMA, PRICES
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore

CHROMIUM = "/usr/bin/chromium"
LOADS, CLICKS, VISITORS = 10, 40, 20
UPLOAD_BYTES = 100_000_000
STORED_MINUTES, SPANS = 2_000_000, 100
# Draws are over when the browser has painted what came.
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# A span is looked at, as by a hand; says the milliseconds until what the server sent for it is painted.
LOOK = """([start, end]) => new Promise(done => {
  const plot = Bokeh.documents[0].get_model_by_name("prices"), began = performance.now();
  const last = plot.renderers.find(each => each.glyph.type === "Rect").data_source;  // of what the server sends
  const painted = () => {
    last.properties.data.change.disconnect(painted);
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
  };
  last.properties.data.change.connect(painted);
  plot.x_range.setv({start, end});
})"""
MINUTE = timedelta(minutes=1)
SILVER = Session(calendar="CMEGlobex_Silver", zone="America/New_York")


# What is there once a page is drawn: a selector, or a text.
DRAWN = {
    "forecast": ".figures",
    "models": "Two versions side by side",
    "monitoring": "Last hourly bars",
    "data": ".calendar",
    "experiments": "newest first",
}
VISITS, WIDTHS = 9, (1280, 390)
# Looked for at each frame: a locator of Playwright looks every half second in the end.
IS_DRAWN = """drawn => {
  const isIn = root => (drawn.startsWith(".") ? root.querySelector(drawn) : root.textContent.includes(drawn)) ||
    [...root.querySelectorAll("*")].some(each => each.shadowRoot && isIn(each.shadowRoot))
  return document.body !== null && isIn(document.body)
}"""
# Since the navigation: milliseconds to now and to the first paint; kilobytes that came for it.
COUNTED = """async () => {
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
  const [paint] = performance.getEntriesByName("first-contentful-paint")
  const came = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  return [performance.now(), paint.startTime, came.reduce((sum, each) => sum + each.transferSize, 0) / 1e3]
}"""


@contextmanager
def looking(browser: Browser, url: str, width: int = 1280) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 900}, timezone_id="UTC", color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def shown(page: Page) -> None:
    page.locator(".figures").wait_for()
    page.evaluate(PAINTED)


def load_s(browser: Browser, url: str) -> float:
    """Measure from the address to a forecast on the screen, on a first visit: nothing is cached, the zone not known."""
    with looking(browser, url) as page:
        start = time.perf_counter()
        page.goto(url)
        shown(page)
        return time.perf_counter() - start


def click_ms(page: Page) -> list[float]:
    """Measure from a click on Forecast, in a table of which one high has changed, to the picture."""
    page.get_by_role("button", name="Type it in", exact=True).click()
    page.get_by_text("session hours are needed").wait_for()
    button, headline = page.get_by_role("button", name="Forecast", exact=True), page.locator(".figures")
    button.click()
    headline.wait_for()
    taken = []
    cell = page.locator(".tabulator-row").nth(0).locator(".tabulator-cell").nth(3)
    high = float(cell.inner_text())
    for number in range(CLICKS):
        cell.click()
        page.keyboard.type(f"{high + (0.05, 2)[number % 2]:.4f}")
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        before = headline.element_handle()
        start = time.perf_counter()
        button.click()
        page.wait_for_function("said => !said.isConnected", arg=before, polling="raf")  # another stands in its place
        page.evaluate(PAINTED)
        taken.append(1e3 * (time.perf_counter() - start))
    return taken


def upload_s(page: Page, path: Path) -> float:
    page.get_by_role("button", name="Upload", exact=True).click()
    page.locator("input[type=file]").wait_for(state="attached")
    start = time.perf_counter()
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text("The file ends here").wait_for()
    shown(page)
    return time.perf_counter() - start


def make_minutes() -> pl.DataFrame:
    """Make minutes of silver's sessions in the seven years until this one began."""
    end = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
    hours = SILVER.hours(end - timedelta(days=365 * 7), end).filter(pl.col("session_minutes") == 60)["ts"]
    stamps_us = hours.to_physical().to_numpy()[:, None] + 60_000_000 * np.arange(60)
    ts = pl.Series(stamps_us.ravel()).cast(BAR_SCHEMA["ts"])
    close = 20 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 2e-4, len(ts))))
    opens = np.concatenate([[20.0], close[:-1]])
    prices = {"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close), "close": close}
    return pl.DataFrame({"ts": ts} | prices | {"volume": np.full(len(ts), 100)}).with_columns(pl.col(*PRICES).round(4))


def write_minutes(path: Path) -> int:
    """Write them as text, as many as fill the upload; says how many."""
    bars = make_minutes().select(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time"), pl.exclude("ts"))
    rows = int(bars.height * UPLOAD_BYTES / len(bars.write_csv()))
    bars.tail(rows).write_csv(path)
    return min(rows, bars.height)


def store_minutes(folder: Path) -> BarStore:
    """Two million; one in a hundred is missing."""
    store = BarStore(folder / "data/raw/XAGUSD", BAR_SCHEMA)
    kept = pl.Series(np.random.default_rng(1).random(len(bars := make_minutes())) >= 0.01)
    with store.upsert("synthetic minutes") as staging:
        staging.add(bars.filter(kept).tail(STORED_MINUTES).with_columns(spread=None).cast(BAR_SCHEMA))
    return store


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(browser: Browser, url: str, pid: int, upload: Path, rows: int) -> None:
    load_s(browser, url)
    loads = [load_s(browser, url) for _ in range(LOADS)]
    print(f"address to forecast, {LOADS} times: median {statistics.median(loads):.2f} s, worst {max(loads):.2f} s")
    with looking(browser, url) as page:
        page.goto(url)
        shown(page)
        clicks = sorted(click_ms(page))
        p95 = statistics.quantiles(clicks, n=20)[-1]
        print(f"click to picture, {CLICKS} times: p50 {statistics.median(clicks):.0f} ms, p95 {p95:.0f} ms")
    before = memory_mb(pid)
    with ExitStack() as stack:
        for _ in range(VISITORS):
            page = stack.enter_context(looking(browser, url))
            page.goto(url)
            shown(page)
        print(f"{VISITORS} visitors at once: {memory_mb(pid):.0f} MB, {before:.0f} MB before them")
    with looking(browser, url) as page:
        page.goto(url)
        shown(page)
        taken = upload_s(page, upload)
        size = upload.stat().st_size / 1e6
        print(f"{size:.0f} MB of CSV, {rows:,} minutes, to forecast: {taken:.1f} s; then {memory_mb(pid):.0f} MB")


def random_spans(store: BarStore) -> list[tuple[datetime, datetime]]:
    """Random spans of stored minutes; from all of them to an hour, of log-uniform lengths."""
    stamps, rng = store.read_stamps(), np.random.default_rng(2)
    whole = stamps[-1] - stamps[0]
    halves = [whole / 2 * (timedelta(hours=1) / whole) ** rng.random() for _ in range(SPANS)]
    middles = [stamps[row] for row in rng.integers(len(stamps), size=SPANS).tolist()]
    return [(middle - half, middle + half) for middle, half in zip(middles, halves, strict=True)]


def open_time(store: BarStore) -> OpenTime:
    return OpenTime(SILVER, store.read_stamps())


def measure_ways(store: BarStore) -> None:
    """Measure how candles of a span are made: of one frame for all visitors, or of its months, read anew."""
    bars = store.read().select("ts", *PRICES, "volume", "spread").rechunk()
    bars = bars.with_columns(open_time(store).days(bars["ts"]))
    spans = random_spans(store)
    for way in ("one frame", "read anew"):
        taken = []
        for start, end in spans:
            began = time.perf_counter()
            held = bars if way == "one frame" else store.read(start, end).with_columns(day=pl.col("ts").dt.date())
            width = choose_width((end - start) / MINUTE, end - start, MINUTE, at_most=WIDE_PX // CANDLE_PX)
            candles_of(held, MINUTE, start, end, width)
            taken.append(1e3 * (time.perf_counter() - began))
        cost = f"{bars.estimated_size('mb'):.0f} MB, once" if way == "one frame" else "nothing held"
        print(f"span to candles, {way}: {in_quantiles(taken)}; {cost}")


def in_quantiles(taken_ms: list[float]) -> str:
    p95 = statistics.quantiles(taken_ms, n=20)[-1]
    return f"p50 {statistics.median(taken_ms):.1f} ms, p95 {p95:.1f} ms, worst {max(taken_ms):.1f} ms"


def see_prices(page: Page, url: str) -> None:
    page.goto(f"{url}?page=data")
    page.get_by_text("minutes are stored").wait_for()
    page.get_by_role("button", name="Prices", exact=True).click()
    page.get_by_text("for every").wait_for()
    page.evaluate(PAINTED)


def measure_pages(browser: Browser, url: str) -> None:
    """The first visit of a browser, then those of one that has the scripts."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for width in WIDTHS:
        for name, drawn in DRAWN.items():
            with looking(browser, url, width) as page:
                away = Away(url)
                page.on("request", away.see)
                first, *later = [count_visit(page, f"{url}?page={name}", drawn) for _ in range(1 + VISITS)]
                ms, paint_ms = (statistics.median(each[at] for each in later) for at in (0, 1))
                print(
                    f"{name} {width}: drawn after {ms:.0f} ms, first paint {paint_ms:.0f} ms; first visit "
                    f"{first[0]:.0f} ms, {first[2]:,.0f} kB; {away.count} requests to other hosts"
                )


class Away:
    """Counts requests to other hosts."""

    def __init__(self, url: str) -> None:
        self._own, self.count = (url, "data:", "blob:"), 0

    def see(self, request: Request) -> None:
        self.count += not request.url.startswith(self._own)


def count_visit(page: Page, url: str, drawn: str) -> list[float]:
    page.goto(url, wait_until="commit")
    page.wait_for_function(IS_DRAWN, arg=drawn, polling="raf")
    return page.evaluate(COUNTED)  # type: ignore[no-any-return]


def measure_data(browser: Browser, url: str, pid: int, store: BarStore) -> None:
    for visit in ("the first since the start", "again"):
        with looking(browser, url) as page:
            start = time.perf_counter()
            page.goto(f"{url}?page=data")
            page.get_by_text("minutes are stored").wait_for()
            print(f"address to coverage of {STORED_MINUTES:,} minutes, {visit}: {time.perf_counter() - start:.2f} s")
    with looking(browser, url) as page:
        see_prices(page, url)
        taken, time_open = [], open_time(store)
        for span in random_spans(store):
            page.wait_for_timeout(200)  # a hand that rests; one that moves on is answered every PACE_S
            taken.append(page.evaluate(LOOK, [time_open.place(edge) for edge in span]))
        print(f"span to picture, {SPANS} times: {in_quantiles(taken)}")
    before = memory_mb(pid)
    with ExitStack() as stack:
        for _ in range(VISITORS):
            see_prices(stack.enter_context(looking(browser, url)), url)
        print(f"{VISITORS} visitors at the prices at once: {memory_mb(pid):.0f} MB, {before:.0f} MB before them")


def main(name: str) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        if name != "minutes":
            visit(browser, "demo" if name == "pages" else name, folder, only_pages=name == "pages")
        if name == "pages":
            return
        store, paths = store_minutes(folder), (f"paths.data={folder}/data", f"paths.outputs={folder}/outputs")
        measure_ways(store)
        with running("dashboard", "-m", "dashboard.server", "port={port}", *paths) as pages:
            measure_data(browser, f"http://127.0.0.1:{pages.port}/", pages.pid, store)
        browser.close()


def visit(browser: Browser, name: str, folder: Path, *, only_pages: bool) -> None:
    paths = (f"paths.data=data/{name}", f"paths.outputs=outputs/{name}")
    with ExitStack() as stack:
        service = stack.enter_context(running("lstm_ts", "-m", "serve.server", "port={port}", *paths))
        url = f"service.url=http://127.0.0.1:{service.port}"
        pages: Any = stack.enter_context(running("dashboard", "-m", "dashboard.server", "port={port}", url, *paths))
        measure_pages(browser, f"http://127.0.0.1:{pages.port}/")
        if only_pages:
            return
        rows = write_minutes(folder / "minutes.csv")
        measure(browser, f"http://127.0.0.1:{pages.port}/", pages.pid, folder / "minutes.csv", rows)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")
