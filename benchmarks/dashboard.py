"""`python -m benchmarks.dashboard [NAME]`: what a visitor of the forecast waits for, and what visitors cost.

Over the stores under data/NAME and outputs/NAME (default: demo, as `make demo` leaves them), with a real service and
Chromium on this machine: all share its cores, so this is the worst case. The upload is synthetic.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from playwright.sync_api import Browser, Page

from benchmarks.browser import PAINTED, VISITORS, browsing, memory_mb, open_page
from benchmarks.measured_server import running
from benchmarks.price_page import make_minutes

LOADS, CLICKS = 10, 40
UPLOAD_BYTES = 100_000_000


@contextmanager
def serving(name: str) -> Iterator[tuple[str, int]]:
    """A service and a dashboard over the stores of that name: the dashboard's address and its process."""
    paths = (f"paths.data=data/{name}", f"paths.outputs=outputs/{name}")
    with running("lstm_ts", "-m", "serve.server", "port={port}", *paths) as service:
        url = f"service.url=http://127.0.0.1:{service.port}"
        with running("dashboard", "-m", "dashboard.server", "port={port}", url, *paths) as pages:
            yield f"http://127.0.0.1:{pages.port}/", pages.pid


def shown(page: Page) -> None:
    page.locator(".figures").wait_for()
    page.evaluate(PAINTED)


def load_s(browser: Browser, url: str) -> float:
    """Measure from the address to a forecast on the screen, on a first visit: nothing is cached, the zone not known."""
    with open_page(browser) as page:
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


def write_minutes(path: Path) -> int:
    """Write them as text, as many as fill the upload; says how many."""
    bars = make_minutes().select(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S").alias("time"), pl.exclude("ts"))
    rows = int(bars.height * UPLOAD_BYTES / len(bars.write_csv()))
    bars.tail(rows).write_csv(path)
    return min(rows, bars.height)


def measure(browser: Browser, url: str, pid: int, upload: Path, rows: int) -> None:
    load_s(browser, url)
    loads = [load_s(browser, url) for _ in range(LOADS)]
    print(f"address to forecast, {LOADS} times: median {statistics.median(loads):.2f} s, worst {max(loads):.2f} s")
    with open_page(browser) as page:
        page.goto(url)
        shown(page)
        clicks = sorted(click_ms(page))
        p95 = statistics.quantiles(clicks, n=20)[-1]
        print(f"click to picture, {CLICKS} times: p50 {statistics.median(clicks):.0f} ms, p95 {p95:.0f} ms")
    before = memory_mb(pid)
    with ExitStack() as stack:
        for _ in range(VISITORS):
            page = stack.enter_context(open_page(browser))
            page.goto(url)
            shown(page)
        print(f"{VISITORS} visitors at once: {memory_mb(pid):.0f} MB, {before:.0f} MB before them")
    with open_page(browser) as page:
        page.goto(url)
        shown(page)
        taken = upload_s(page, upload)
        size = upload.stat().st_size / 1e6
        print(f"{size:.0f} MB of CSV, {rows:,} minutes, to forecast: {taken:.1f} s; then {memory_mb(pid):.0f} MB")


if __name__ == "__main__":
    stores = sys.argv[1] if len(sys.argv) > 1 else "demo"
    with browsing() as chromium, serving(stores) as (address, process), TemporaryDirectory() as folder:
        minutes = Path(folder) / "minutes.csv"
        measure(chromium, address, process, minutes, write_minutes(minutes))
