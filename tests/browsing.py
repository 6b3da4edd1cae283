"""A real dashboard on a free loopback port, and a real browser that looks at it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from processes import ROOT, end, free_port, wait_for

CHROMIUM = Path("/usr/bin/chromium")
ZONE = "Europe/Berlin"
expect.set_options(timeout=60_000)  # milliseconds; two cores may have more to do


@contextmanager
def open_browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"Expected Chromium at {CHROMIUM}, got none; apt-get install chromium", pytrace=False)
        pytest.skip(f"Chromium is not at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Dashboard:
    """One `python -m dashboard.server` beside the service at `url`."""

    def __init__(self, folder: Path, url: str, *overrides: str, key: str = "", password: str = "") -> None:
        port = free_port()
        paths = (f"paths.outputs={folder}", f"paths.data={folder}/data", f"port={port}", f"service.url={url}")
        databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
        command = [sys.executable, "-m", "dashboard.server", *paths, *databases, "poll_s=0.5", *overrides]
        secrets = {"LSTM_TS_API_KEY": key, "LSTM_TS_DASHBOARD_PASSWORD": password}
        self.url, self.log = f"http://127.0.0.1:{port}", folder / f"dashboard-{port}.log"
        with self.log.open("wb") as log:
            environment = os.environ | secrets | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=log)


@contextmanager
def shown(dashboard: Dashboard) -> Iterator[Dashboard]:
    try:
        with httpx.Client(trust_env=False, timeout=20) as client:
            wait_for(lambda: client.get(dashboard.url), process=dashboard.process)
        yield dashboard
        assert "Traceback" not in dashboard.log.read_text()
    except BaseException:
        print(dashboard.log.read_text()[-5000:])
        raise
    finally:
        end(dashboard.process)


# What comes over the websocket is late by `lateness`, in its order.
LATE = """const Real = WebSocket;
window.lateness = 0;
window.WebSocket = class extends Real {
  set onmessage(handler) { super.onmessage = event => setTimeout(() => handler(event), window.lateness); }
};"""


def delay_answers(page: Page, delay_ms: int) -> None:
    """Every answer of the server, over HTTP or the websocket, of a page that was opened with `LATE`."""
    page.evaluate("delay_ms => { window.lateness = delay_ms }", delay_ms)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    speed = {"downloadThroughput": -1, "uploadThroughput": -1}
    devtools.send("Network.emulateNetworkConditions", {"offline": False, "latency": delay_ms, **speed})


@contextmanager
def open_page(browser: Browser, url: str, *, width: int = 1280, dark: bool = False, script: str = "") -> Iterator[Page]:
    """A new visitor, in Berlin; `script` runs before those of a page.

    A window that an earlier visitor has left is taken again, since a new one reads all scripts anew, for seconds.
    """
    idle = [page for context in browser.contexts for page in context.pages if page.url == "about:blank"]
    page = idle[0] if idle and not script else _open_window(browser, script)
    try:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.goto(url)
        yield page
        _forget_visitor(page)
    except BaseException:
        page.context.close()
        raise
    if script:
        page.context.close()


def _open_window(browser: Browser, script: str) -> Page:
    context = browser.new_context(timezone_id=ZONE)
    context.set_default_timeout(60_000)
    page = context.new_page()
    page.add_init_script(script)
    return page


def _forget_visitor(page: Page) -> None:
    page.evaluate("window.localStorage?.clear(); window.sessionStorage?.clear()")
    page.context.clear_cookies()
    page.goto("about:blank")


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} {node['target']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def hidden_at_the_right(page: Page) -> list[str]:
    """Tables that have to be pushed sideways to be read."""
    cut = (
        "all => all.filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.textContent.slice(0, 60))"
    )
    return page.locator(".scroll, .tabulator-tableholder, .wide:has(table)").evaluate_all(cut)  # type: ignore[no-any-return]


def rows_of(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name).locator("tbody tr")


def confirm(page: Page, *, reason: str, password: str) -> None:
    page.get_by_label(", which is kept").fill(reason)
    page.get_by_label("Operator password").fill(password)
    page.get_by_role("button", name="Confirm").click()


# Where data x, y are on the screen, in the first figure that has room for them; null until there is one.
PLACE = """([x, y]) => {
  const within = ({start, end}, value) => start <= value && value <= end;
  const holds = ({model, frame}) => model.type == "Figure" && within(frame.x_range, x) && within(frame.y_range, y);
  const [view] = [...Bokeh.index.query(holds)].filter(view => view.el.getClientRects().length);
  if (!view) return null;
  view.el.scrollIntoView({block: "center"});
  const corner = view.canvas_view.el.getBoundingClientRect();
  return [corner.x + view.frame.x_scale.compute(x), corner.y + view.frame.y_scale.compute(y)];
}"""


def click_at(page: Page, x: float, y: float) -> None:
    page.mouse.click(*page.wait_for_function(PLACE, arg=[x, y]).json_value())
