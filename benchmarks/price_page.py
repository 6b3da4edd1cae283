"""`python -m benchmarks.price_page`: the data page over two million synthetic minutes, in Chromium on this machine."""

import statistics
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from playwright.sync_api import Browser, Page

from benchmarks.browser import PAINTED, VISITORS, browsing, memory_mb, open_page
from benchmarks.measured_server import running
from dashboard.data.explorer import CANDLE_PX, WIDE_PX
from dashboard.data.zoom import candles_of, choose_timeframe
from dashboard.ui.open_time import OpenTime
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, PRICES
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore

STORED_MINUTES, SPANS = 2_000_000, 100
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


def store_minutes(folder: Path) -> BarStore:
    """Two million; one in a hundred is missing."""
    store = BarStore(folder / "data/raw/XAGUSD", BAR_SCHEMA)
    kept = pl.Series(np.random.default_rng(1).random(len(bars := make_minutes())) >= 0.01)
    with store.upsert("synthetic minutes") as staging:
        staging.add(bars.filter(kept).tail(STORED_MINUTES).with_columns(spread=None).cast(BAR_SCHEMA))
    return store


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
            timeframe = choose_timeframe((end - start) / MINUTE, end - start, MINUTE, at_most=WIDE_PX // CANDLE_PX)
            candles_of(held, MINUTE, start, end, timeframe)
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


def measure_data(browser: Browser, url: str, pid: int, store: BarStore) -> None:
    for visit in ("the first since the start", "again"):
        with open_page(browser) as page:
            start = time.perf_counter()
            page.goto(f"{url}?page=data")
            page.get_by_text("minutes are stored").wait_for()
            print(f"address to coverage of {STORED_MINUTES:,} minutes, {visit}: {time.perf_counter() - start:.2f} s")
    with open_page(browser) as page:
        see_prices(page, url)
        taken, time_open = [], open_time(store)
        for span in random_spans(store):
            page.wait_for_timeout(200)  # a hand that rests; one that moves on is answered every PACE_S
            taken.append(page.evaluate(LOOK, [time_open.place(edge) for edge in span]))
        print(f"span to picture, {SPANS} times: {in_quantiles(taken)}")
    before = memory_mb(pid)
    with ExitStack() as stack:
        for _ in range(VISITORS):
            see_prices(stack.enter_context(open_page(browser)), url)
        print(f"{VISITORS} visitors at the prices at once: {memory_mb(pid):.0f} MB, {before:.0f} MB before them")


def main() -> None:
    with TemporaryDirectory() as folder, browsing() as browser:
        store, paths = store_minutes(Path(folder)), (f"paths.data={folder}/data", f"paths.outputs={folder}/outputs")
        Ledger(f"sqlite:///{folder}/outputs/registry/ledger.db").close()  # as ingest makes it
        measure_ways(store)
        with running("dashboard", "-m", "dashboard.server", "port={port}", *paths) as pages:
            measure_data(browser, f"http://127.0.0.1:{pages.port}/", pages.pid, store)


if __name__ == "__main__":
    main()
