"""`python -m benchmarks.page_loads`: each page of the demo, by the browser's counters.

Over the stores under data/demo and outputs/demo, as `make demo` leaves them, with a real service and Chromium on this
machine: all share its cores, so this is the worst case.
"""

import os
import statistics

from playwright.sync_api import Browser, Page, Request

from benchmarks.browser import browsing, open_page
from benchmarks.dashboard import serving

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


def measure_pages(browser: Browser, url: str) -> None:
    """The first visit of a browser, then those of one that has the scripts."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    for width in WIDTHS:
        for name, drawn in DRAWN.items():
            with open_page(browser, width) as page:
                external = ExternalRequests(url)
                page.on("request", external.count_request)
                first, *later = [count_visit(page, f"{url}?page={name}", drawn) for _ in range(1 + VISITS)]
                ms, paint_ms = (statistics.median(each[at] for each in later) for at in (0, 1))
                print(
                    f"{name} {width}: drawn after {ms:.0f} ms, first paint {paint_ms:.0f} ms; first visit "
                    f"{first[0]:.0f} ms, {first[2]:,.0f} kB; {external.count} requests to other hosts"
                )


class ExternalRequests:
    """Counts requests to other hosts."""

    def __init__(self, url: str) -> None:
        self._own, self.count = (url, "data:", "blob:"), 0

    def count_request(self, request: Request) -> None:
        self.count += not request.url.startswith(self._own)


def count_visit(page: Page, url: str, drawn: str) -> list[float]:
    page.goto(url, wait_until="commit")
    page.wait_for_function(IS_DRAWN, arg=drawn, polling="raf")
    return page.evaluate(COUNTED)  # type: ignore[no-any-return]


if __name__ == "__main__":
    with browsing() as chromium, serving("demo") as (address, _):
        measure_pages(chromium, address)
