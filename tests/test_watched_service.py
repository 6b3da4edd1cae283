"""A service looked at from outside: a real one while it serves and once it is gone; and answers that none gives."""

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from processes import free_port, wait_for
from prometheus_client import generate_latest
from serving import Server, make_bars, registry_of, running, save_model
from starlette.types import Message, Receive, Scope, Send
from test_registry import promote, register
from webhook import answering

from lstm_ts.errors import ConfigError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.session import Session
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.service import NO_COUNTS, ServiceCheck, ServiceLimits, check_service, find_before, watch_service
from serve.middleware import Counted
from serve.platforms import INVOCATIONS

AT = datetime(2026, 11, 25, 14, 4, tzinfo=UTC)
USUAL: dict[str, Any] = {"answer_s": 30.0, "attempts": 1, "pause_s": 0.0, "max_bytes": 4_000_000, "window_s": 900}
USUAL |= {"min_requests": 3, "max_failed": 0.02, "slow_s": 0.5, "max_slow": 0.05}
READY = b'{"ready": true, "reason": null, "workers": [{"symbol": "XAGUSD", "model": {"version": 3}, "reason": null}]}'
METRICS = """
lstm_ts_workers 1
lstm_ts_requests_total{route="/predict",status="200",arm="champion",symbol="XAGUSD",version="3"} %d
lstm_ts_requests_total{route="/predict",status="500",arm="champion",symbol="XAGUSD",version="3"} %d
lstm_ts_requests_total{route="/predict",status="422",arm="champion",symbol="XAGUSD",version="3"} 0
lstm_ts_requests_total{route="/health",status="503",arm="",symbol="",version=""} 1000
lstm_ts_request_seconds_bucket{le="0.2",route="/predict"} 0
lstm_ts_request_seconds_bucket{le="0.5",route="/predict"} %d
lstm_ts_request_seconds_bucket{le="+Inf",route="/predict"} %d
lstm_ts_request_seconds_count{route="/predict"} %d
lstm_ts_forecast_log_total{outcome="written"} 50
lstm_ts_forecast_log_total{outcome="dropped"} %d
lstm_ts_forecast_log_total{outcome="lost"} %d
lstm_ts_ledger_away %d
lstm_ts_started_timestamp_seconds %f
"""


def limits(**changes: Any) -> ServiceLimits:
    return ServiceLimits(**USUAL | changes)


def healths(findings: list[Finding]) -> dict[str, Health]:
    return {finding.rule: finding.health for finding in findings}


def sentence(findings: list[Finding], rule: str) -> str:
    return next(finding.sentence for finding in findings if finding.rule == rule)


def metrics(
    *, good: int, failed: int = 0, slow: int = 0, dropped: int = 0, lost: int = 0, away: int = 0, started: float = 1.0
) -> bytes:
    total = good + failed
    return (METRICS % (good, failed, total - slow, total, total, dropped, lost, away, started)).encode()


class Pages:
    """What is answered, by path; a list is sent bit by bit, a tenth of a second each."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.pages: dict[str, bytes | list[bytes]] = {"/health": READY, "/metrics": metrics(good=0)}


@pytest.fixture
def pages() -> Iterator[Pages]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = opened.pages[self.path]
            self.send_response(200)
            self.end_headers()
            for part in [page] if isinstance(page, bytes) else page:
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(0 if isinstance(page, bytes) else 0.1)

        def log_message(self, *_: Any) -> None: ...

    with answering(Handler) as port:
        opened = Pages(port)
        yield opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path}/watched.db")) as opened:
        yield opened


@pytest.mark.slow
def test_a_real_service_is_well_counts_its_requests_and_once_ended_is_away(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path, ledger: Ledger
) -> None:
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    with registry_of(tmp_path) as registry:
        register(registry, save_model(tmp_path / "models" / "1", hourly_bars, silver, seed=1))
    with running(Server(tmp_path)) as server:
        url = str(server.client.base_url).rstrip("/")
        wait_for(lambda: len(server.health().workers) == 1)
        assert server.metric('lstm_ts_workers_without_champion{symbol="XAGUSD"}') == 1
        failed = 'lstm_ts_requests_failed_total{route="/predict"}'
        assert f"{failed} 0.0" in server.client.get("/metrics").text
        assert server.predict({"symbol": "XAGUSD", "bars": []}).status_code == 503
        assert f"{failed} 1.0" in server.client.get("/metrics").text
        without = watch_service(ledger, url, limits(), now=AT)
        assert healths(without)["service_no_champion"] is Health.BAD
        assert "1 of 1 workers" in sentence(without, "service_no_champion")
        with registry_of(tmp_path) as registry:
            promote(registry, 1)
        wait_for(lambda: server.health().ready)
        for _ in range(4):
            server.ask(make_bars(silver))
        assert f"{failed} 1.0" in server.client.get("/metrics").text
        assert server.metric('lstm_ts_workers_without_champion{symbol="XAGUSD"}') == 0
        found = watch_service(ledger, url, limits(), now=AT + timedelta(minutes=1))
        assert set(healths(found).values()) == {Health.GOOD}, found
        assert "0 of the last 4 requests (0.0 %)" in sentence(found, "service_errors")
        assert "0 of the last 4 requests (0.0 %)" in sentence(found, "service_latency")
    gone = watch_service(ledger, url, limits(attempts=2, pause_s=0.01), now=AT + timedelta(minutes=2))
    assert healths(gone).pop("service_no_answer") is Health.BAD
    assert (
        sentence(gone, "service_no_answer") == f"The forecast service does not respond: No connection to {url}/health."
    )
    assert set(healths(gone).values()) == {Health.BAD, Health.UNKNOWN}


@pytest.mark.parametrize(
    ("counted", "rule"),
    [
        ({"good": 97, "failed": 3}, "service_errors"),
        ({"good": 100, "slow": 6}, "service_latency"),
        ({"good": 100, "dropped": 1}, "forecast_log_dropping"),
        ({"good": 100, "lost": 1}, "forecast_log_dropping"),
        ({"good": 100, "away": 1}, "forecast_log_dropping"),
    ],
)
def test_each_figure_beyond_its_limit_is_found(
    pages: Pages, ledger: Ledger, counted: dict[str, int], rule: str
) -> None:
    assert healths(watch_service(ledger, pages.url, limits(), now=AT))[rule] is Health.UNKNOWN
    pages.pages["/metrics"] = metrics(**counted)
    found = healths(watch_service(ledger, pages.url, limits(), now=AT))
    assert found.pop(rule) is Health.BAD
    assert set(found.values()) == {Health.GOOD}


def test_figures_within_their_limits_are_good_and_none_are_unknown(pages: Pages, ledger: Ledger) -> None:
    watch_service(ledger, pages.url, limits(), now=AT)
    found = healths(watch_service(ledger, pages.url, limits(), now=AT))
    assert (found["service_errors"], found["service_latency"]) == (Health.UNKNOWN, Health.UNKNOWN)
    pages.pages["/metrics"] = metrics(good=400, failed=8, slow=20)
    assert set(healths(watch_service(ledger, pages.url, limits(), now=AT)).values()) == {Health.GOOD}
    pages.pages["/metrics"] = metrics(good=2, failed=2)  # two requests prove nothing
    assert healths(watch_service(ledger, pages.url, limits(), now=AT))["service_errors"] is Health.GOOD


def test_a_look_is_compared_with_one_of_a_window_before_also_after_a_restart(pages: Pages, ledger: Ledger) -> None:
    def look(minutes: float, **counted: int) -> str:
        pages.pages["/metrics"] = metrics(**counted)
        return sentence(
            watch_service(ledger, pages.url, limits(), now=AT + timedelta(minutes=minutes)), "service_errors"
        )

    look(0, good=1000)
    assert "0 of the last 10 requests" in look(5, good=1010)
    assert "0 of the last 20 requests" in look(15, good=1020)
    assert "1 of the last 4 requests" in look(16, good=1023, failed=1)
    assert "2 of the last 7 requests" in look(17, good=5, failed=2)


def test_after_a_restart_a_service_is_not_compared_with_the_process_before(pages: Pages, ledger: Ledger) -> None:
    anew = AT.timestamp() + 30

    def look(minutes: float, good: int, failed: int = 0, *, started: float = anew) -> Health:
        pages.pages["/metrics"] = metrics(good=good, failed=failed, started=started)
        found = watch_service(ledger, pages.url, limits(), now=AT + timedelta(minutes=minutes))
        return healths(found)["service_errors"]

    look(0, 100, 1, started=1.0)
    assert look(1, 1) is Health.GOOD
    assert look(2, 119, 3) is Health.BAD  # 3 of 122, and only 2 of 21 beyond the old ones
    assert look(17, 200, 5) is Health.BAD
    assert look(18, 210, 5) is Health.GOOD


def test_a_loss_is_found_once_also_where_the_service_after_counts_it_on(pages: Pages, ledger: Ledger) -> None:
    found = []
    for number, lost in enumerate([0, 3, 3, 5, 0, 2]):  # 3 lost; killed; killed with 2; ended in order; killed with 2
        at = AT + timedelta(hours=number)
        pages.pages["/metrics"] = metrics(good=10, lost=lost, started=at.timestamp() - 1800)
        found.append(sentence(watch_service(ledger, pages.url, limits(), now=at), "forecast_log_dropping"))
    assert [re.findall(r"lost (\d+)", text) for text in found] == [[], ["3"], [], ["2"], [], ["2"]]


def test_of_replicas_behind_one_address_each_is_compared_with_itself(pages: Pages, ledger: Ledger) -> None:
    counted = {"a": {"good": 950, "failed": 50, "started": 1.0}, "b": {"good": 100, "started": 2.0}}
    found = []
    for number, replica in enumerate("aaaababaa"):
        pages.pages["/metrics"] = metrics(**counted[replica])
        at = AT + timedelta(minutes=10 * number)
        found.append(healths(watch_service(ledger, pages.url, limits(), now=at))["service_errors"])
    assert Health.BAD not in found
    pages.pages["/metrics"] = metrics(good=960, failed=60, started=1.0)
    assert healths(watch_service(ledger, pages.url, limits(), now=at))["service_errors"] is Health.BAD


def test_a_replica_that_starts_again_is_compared_with_the_fewest_losses_of_those_that_ran() -> None:
    def look(started: float, lost: float, *, s: float) -> ServiceCheck:
        return ServiceCheck(datetime.fromtimestamp(s, UTC), started, replace(NO_COUNTS, lost=lost))

    replicas, restarted = [look(2, 5, s=100), look(1, 0, s=90)], [look(50, 5, s=100), look(1, 0, s=40)]
    bases = [find_before(checks, 110) for checks in (replicas, restarted)]
    assert [base and base.counts.lost for base in bases] == [0, 5]


def test_failures_on_the_routes_of_hosting_platforms_are_failures_of_forecasts(pages: Pages, ledger: Ledger) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = SimpleNamespace(path=INVOCATIONS)
        await send({"type": "http.response.start", "status": 500, "headers": []})

    async def nothing(*_: Message) -> Message:
        return {}

    async def ask() -> None:
        scope = {"type": "http", "method": "POST", "headers": []}
        await Counted(fail)(scope, nothing, nothing)

    pages.pages["/metrics"] = b"lstm_ts_workers 1\n" + generate_latest()
    watch_service(ledger, pages.url, limits(), now=AT)
    for _ in range(50):
        asyncio.run(ask())
    pages.pages["/metrics"] = b"lstm_ts_workers 1\n" + generate_latest()
    found = watch_service(ledger, pages.url, limits(), now=AT)
    assert healths(found)["service_errors"] is Health.BAD
    assert "50 of the last 50 requests (100.0 %)" in sentence(found, "service_errors")


@pytest.mark.parametrize("page", [b"<html>", b"[1]", b'{"workers": 3}', b"\xff", b"[" * 100_000])
def test_what_is_no_service_is_no_answer(pages: Pages, page: bytes) -> None:
    pages.pages["/health"] = page
    found, counts = check_service(pages.url, limits(), [], now=AT)
    assert (healths(found)["service_no_answer"], counts) == (Health.BAD, None)
    assert "is no forecast service" in found[0].sentence


@pytest.mark.parametrize(
    "page",
    [b"<html>", b"\xff\xfe", b"lstm_ts_requests_total{", b"x{a=} 1", b'x{a="} 1', b"x 1 2 3 4", b"lstm_ts_workers one"],
)
def test_metrics_that_are_none_are_unknown(pages: Pages, page: bytes) -> None:
    pages.pages["/metrics"] = page
    found, counts = check_service(pages.url, limits(), [ServiceCheck(AT, 0.0, NO_COUNTS)], now=AT)
    assert healths(found)["service_no_answer"] is Health.GOOD
    assert (healths(found)["service_errors"], counts) == (Health.UNKNOWN, None)


def test_an_answer_is_bounded_in_size_and_time(pages: Pages) -> None:
    pages.pages["/health"] = b"x" * 5000
    found, _ = check_service(pages.url, limits(max_bytes=4000), [], now=AT)
    assert "More than 4000 bytes from" in found[0].sentence
    pages.pages["/health"] = [b" "] * 100
    start = time.monotonic()
    found, _ = check_service(pages.url, limits(answer_s=0.5), [], now=AT)
    assert time.monotonic() - start < 5
    assert "No whole answer within 0.5 s from" in found[0].sentence


def test_an_address_that_is_none_or_holds_a_secret_is_said_without_it() -> None:
    for url in ("127.0.0.1:8000", "ftp://host", "http://user:hunter2@host", "http://host/?key=hunter2", ""):
        with pytest.raises(ConfigError, match=r"Expected a service such as http://127\.0\.0\.1:8000") as said:
            check_service(url, limits(), [], now=AT)
        assert "hunter2" not in str(said.value)
    found, _ = check_service(f"http://127.0.0.1:{free_port()}/", limits(), [], now=AT)
    assert healths(found)["service_no_answer"] is Health.BAD


@pytest.mark.parametrize(("name", "value"), [("attempts", 0), ("answer_s", "soon"), ("max_slow", -1)])
def test_a_limit_that_is_none_is_said(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"checks\.service\.{name} of at least"):
        limits(**{name: value})
