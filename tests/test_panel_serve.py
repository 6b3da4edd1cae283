"""`panel serve dashboard/app.py` beside `python -m dashboard.server`."""

import os
import sys
from pathlib import Path

import pytest
from browsing import open_browser, open_page
from playwright.sync_api import expect
from processes import ROOT, WAIT_S, child, free_port, listens, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1", "The service at http://127.0.0.1:9 does not answer"),
        ("127.0.0.2", "Expected auth.basic or auth.oauth.provider with host=127.0.0.2, which others can reach"),
    ],
)
def test_panel_serve_shows_the_pages_on_this_machines_own_address_alone(
    tmp_path: Path, address: str, told: str
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "panel", "serve", str(ROOT / "dashboard/app.py"), "--port", str(port)]
    command += ["--address", address, "--allow-websocket-origin", f"{address}:{port}"]
    environment = os.environ | {"LSTM_TS_SERVICE": "http://127.0.0.1:9"}
    with child(command, cwd=tmp_path, env=environment) as served:
        wait_for(lambda: listens(address, port))
        with open_browser() as browser, open_page(browser, f"http://{address}:{port}/app") as page:
            expect(page.get_by_text(told)).to_be_visible()
        served.terminate()
        served.wait(WAIT_S)
    assert list(tmp_path.iterdir()) == []
