"""The report in a real browser."""

from pathlib import Path

import pytest
from browsing import hidden_at_the_right, open_page, violations
from playwright.sync_api import Browser
from test_report import make_record

from lstm_ts.scoring.report import write_report
from lstm_ts.scoring.scores import compute_scores


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_a_rows_scores_with_their_headings(browser: Browser, tmp_path: Path, dark: bool) -> None:
    record = make_record()
    path = write_report(tmp_path, record, compute_scores(record), "files")
    with open_page(browser, path.as_uri(), width=390, dark=dark) as page:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(18, 18, 18)" if dark else "rgb(255, 255, 255)")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert hidden_at_the_right(page) == []
        card = page.get_by_role("region", name="Scores, 1 hour ahead").locator("tbody tr").first
        label = card.locator("td").nth(1).evaluate("cell => getComputedStyle(cell, '::before').content")
        assert label == '"pinball bps"'
        picture = page.get_by_role("region", name="calibration")
        said = picture.evaluate("part => getComputedStyle(part, '::before').content")
        assert "goes on to the right" in said
        assert violations(page) == []
