"""Two symbols of different calendars, from minutes to forecasts, pages and a schedule."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from browsing import Dashboard, open_browser, shown
from commands import mistake, run, succeed
from omegaconf import OmegaConf
from playwright.sync_api import expect
from processes import wait_for
from serving import Server, running

from lstm_ts import http_schema
from lstm_ts.cli import compose
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.pipeline import build_definitions, make_home
from lstm_ts.store.bar_store import BarStore

GEAR = ("net.hidden=4", "net.decoder=4", "trainer.max_epochs=1", "trainer.enable_progress_bar=false")
STRIDES = (
    "tsteps=12",
    "horizon=6",
    "spec.max_missing=6",
    "retrain.valid=4w",
    "retrain.holdout=6w",
    "gate.min_origins=50",
)
SPAN = ("source.start=2025-09-01", "source.end=2026-03-01")


@pytest.mark.slow
@pytest.mark.browser
def test_two_symbols_go_from_minutes_to_forecasts_pages_and_a_schedule(tmp_path: Path, own_conf: Path) -> None:
    """Silver, and a share in Tokyo of a file of one's own: another calendar with a lunch break, in yen."""
    own = f"hydra.searchpath=['file://{own_conf}']"
    databases = (f"registry.uri=sqlite:///{tmp_path}/mlflow.db", f"registry.ledger=sqlite:///{tmp_path}/ledger.db")
    for symbol in ("XAGUSD", "7203"):
        chosen = (own, f"symbol={symbol}", *databases)
        for command, options in (("ingest", SPAN), ("process", ()), ("retrain", (*GEAR, *STRIDES))):
            succeed(command, tmp_path, *chosen, *options)
        succeed("registry", tmp_path, *chosen, "action=promote", "version=1", "reason=the first")
    walk = (
        "walk.start=0.9",
        "walk.valid=2w",
        "walk.every=1mo",
        "starts=[scratch]",
        "folds=[0]",
        "hydra/launcher=basic",
    )
    succeed("backtest", tmp_path, own, "symbol=7203", *GEAR, *STRIDES[:3], *walk)  # its jobs read the file anew
    tokyo = BarStore(tmp_path / "data/processed/7203", HOURLY_SCHEMA)
    assert {ts.hour for ts in tokyo.read()["ts"]} == {0, 1, 2, 3, 4, 5, 6}  # 9:00 to 11:30, 12:30 to 15:30
    refused = mistake(run("process", tmp_path, own, "symbol=7203", "symbol.session.calendar=NYSE", *databases))
    assert "was stored with, JPX in Asia/Tokyo, got NYSE" in refused and "symbol.session.calendar=JPX" in refused

    with running(Server(tmp_path, own, "symbols=[XAGUSD,7203]")) as server:
        wait_for(lambda: server.health().ready)
        replies = {}
        for symbol in ("XAGUSD", "7203"):
            response = server.client.get("/forecast", params={"symbol": symbol}).raise_for_status()
            replies[symbol] = http_schema.ForecastReply.model_validate_json(response.content)
        assert {symbol: reply.currency for symbol, reply in replies.items()} == {"XAGUSD": "USD", "7203": "JPY"}
        hours = Session(calendar="JPX", zone="Asia/Tokyo").next_hours(tokyo.read()["ts"][-1], 6)
        assert [step.target_ts for step in replies["7203"].path] == [ts + timedelta(hours=1) for ts in hours]
        look_at_both(tmp_path, str(server.client.base_url), own)

    overrides = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", *databases, own]
    overrides += ["symbols=[XAGUSD,7203]", "first_day=2026-01-01", f"ingest='{' '.join(SPAN)}'"]
    definitions = build_definitions(overrides)
    home = make_home(tmp_path / "dagster", OmegaConf.to_yaml(compose("pipeline", overrides).instance, resolve=True))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for symbol in ("XAGUSD", "7203"):
            done = definitions.resolve_job_def(f"{symbol}_bars").execute_in_process(
                instance=instance, partition_key="2026-02-02"
            )
            (event,) = done.asset_materializations_for_node(f"{symbol}__minute_bars")
            assert event.metadata["says"].value == "nothing new"
        at = datetime(2026, 2, 2, 15, 4, tzinfo=UTC)  # midnight in Tokyo, ten in the morning in New York
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=at, repository_def=definitions.get_repository_def()
        )
        asked = [definitions.resolve_schedule_def(f"{symbol}_hourly").evaluate_tick(context).run_requests
                 for symbol in ("XAGUSD", "7203")]  # fmt: skip
        assert [len(requests or ()) for requests in asked] == [1, 0]


def look_at_both(folder: Path, url: str, own: str) -> None:
    with open_browser() as browser, shown(Dashboard(folder, url, own)) as dashboard:
        page = browser.new_page()
        page.goto(dashboard.url)
        for symbol, currency in (("XAGUSD", "USD"), ("7203", "JPY")):
            page.get_by_label("Symbol").select_option(symbol)
            expect(page.get_by_text(f"Made by version 1 of {symbol}")).to_be_visible()
            expect(page.locator(".figures > div").first).to_contain_text(f" {currency}")
        page.goto(f"{dashboard.url}/?page=data")
        page.get_by_label("Symbol").select_option("7203")
        expect(page.get_by_text("No session minute is unknown.")).to_be_visible(timeout=60_000)
