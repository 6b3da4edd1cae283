"""`source=ib` against the simulated TWS of `tests/tws`, through the unmodified client: the one that is installed."""

import ast
import asyncio
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from processes import ROOT, WAIT_S, child, output, read_line, wait_for

from benchmarks.ingestion import survive
from lstm_ts.errors import BrokerError, BrokerUnavailable, ConfigError, NoRows, WrongZone
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.market.bars import BAR_SCHEMA, PRICES, AnsweredSpan
from lstm_ts.market.completeness import State, classify, coverage
from lstm_ts.market.session import Session
from lstm_ts.sources.backfill import Backfill, BackfillResult
from lstm_ts.sources.ib import source as ib
from lstm_ts.sources.ib.connection import EventLoopRunner
from lstm_ts.sources.ib.errors import MEANINGS, Action, explain
from lstm_ts.sources.ib.errors import place as place_of
from lstm_ts.sources.ib.login import check_account
from lstm_ts.sources.ib.pacing import Pacing
from lstm_ts.sources.ib.source import InteractiveBrokers
from lstm_ts.sources.span_order import plan_spans
from lstm_ts.sources.stored_series import SeriesLimits
from lstm_ts.sources.synthetic import Synthetic
from lstm_ts.store.bar_store import BarStore
from tests.tws import Tws
from tests.tws.faults import FAULTS, Meets

CLIENT = "ib_async" if find_spec("ib_async") else "ib_insync"  # where both are, the lock has brought the other one
SILVER = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
START = datetime(2015, 3, 1, tzinfo=UTC)
END = datetime(2015, 3, 6, tzinfo=UTC)  # four sessions and one that has begun
MINUTE = timedelta(minutes=1)
CONTRACT = {"symbol": "XAGUSD", "secType": "CMDTY", "exchange": "SMART", "currency": "USD"}
OUTAGE_S = 0.2


def make_truth(start: str = "2015-03-01", end: str = "2015-03-06") -> pl.DataFrame:
    """About two minutes in a hundred have no bar."""
    source = Synthetic(
        session=SILVER, start=start, end=end, seed=7, start_price=16.0, signal="silver", ar_coefficient=0.0
    )
    bars = pl.concat([batch.bars for batch in source.read_batches()])
    return bars.with_columns(volume=pl.lit(None, pl.Float64))


TRUTH = make_truth()


def make_broker(port: int, *, pace: float = 0.0, **changes: Any) -> InteractiveBrokers:
    rules = {"identical_s": 15, "burst_s": 2, "burst_requests": 5, "window_s": 600, "window_requests": 59}
    retries = {"attempts": 8, "first_s": 0.05, "longest_s": 0.5, "closed_s": 0.0}
    options = {
        "client": import_module(CLIENT).IB,
        "session": SILVER,
        "max_mismatch": 0.02,
        "contract": CONTRACT,
        "host": "127.0.0.1",
        "port": port,
        "client_id": 17,
        "live": False,
        "max_skew_s": 30.0,
        "connect_s": 20.0,
        "answer_s": 20.0,
        "outage_s": 20.0,
        "retries": retries,
        "pacing": Pacing(**rules, scale=pace),
    }
    return InteractiveBrokers(**options | changes)


@cache
def empty_ledger() -> bytes:
    with TemporaryDirectory() as folder:
        Ledger(f"sqlite:///{folder}/ledger.db").close()
        return Path(folder, "ledger.db").read_bytes()


class Place:
    """A store and its ledger."""

    def __init__(self, folder: Path, session: Session = SILVER) -> None:
        self.raw = BarStore(folder / "raw" / "XAGUSD", BAR_SCHEMA)
        if not (folder / "ledger.db").exists():
            (folder / "ledger.db").write_bytes(empty_ledger())
        self.ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        self.rejects = folder / "rejects.csv"
        self.limits = SeriesLimits(
            max_reject_share=0.01, max_mismatch=0.02, allow_level_change=False, allow_revisions=False
        )
        self.session = session

    def fill(
        self,
        broker: InteractiveBrokers,
        *,
        start: datetime | None = START,
        end: datetime | None = END,
        again: bool = False,
        commit_s: float = 0.0,
    ) -> BackfillResult:
        return Backfill(
            broker=broker,
            raw=self.raw,
            session=self.session,
            ledger=self.ledger,
            symbol="XAGUSD",
            commit_s=commit_s,
            limits=self.limits,
            rejects_csv=self.rejects,
        ).run(start, end, again=again)

    def answers(self) -> list[AnsweredSpan]:
        return self.ledger.answers("XAGUSD", self.raw.id)

    def states(self) -> dict[str, int]:
        segments = classify(self.session.spans(START, END), self.raw.read_stamps(), self.answers())
        return dict(zip(State, coverage(segments).drop("month").sum().row(0), strict=True))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    opened = Place(tmp_path)
    yield opened
    opened.ledger.close()


@contextmanager
def serving(bars: pl.DataFrame = TRUTH, **options: object) -> Iterator[Tws]:
    with Tws(bars, **{"pace": 0, "outage": OUTAGE_S, "seed": 7} | options) as tws:
        yield tws


def missing_minutes() -> int:
    return int(SILVER.hours(START, END)["session_minutes"].sum()) - TRUTH.height


# What is stored, and what is proven


def test_the_store_equals_the_truth_and_what_lacks_is_proven_by_a_second_connection(place: Place) -> None:
    with serving() as tws:
        first = place.fill(make_broker(tws.port))
        assert (first.asked, first.new, first.revised, first.unanswered) == (5, TRUTH.height, 0, 0)
        assert place.raw.read().equals(TRUTH)
        assert place.states() == {"present": TRUTH.height, "empty": 0, "waiting": missing_minutes(), "unknown": 0}
        second = place.fill(make_broker(tws.port))
        assert (second.asked, second.new) == (5, 0)
        assert place.states() == {"present": TRUTH.height, "empty": missing_minutes(), "waiting": 0, "unknown": 0}
        assert place.fill(make_broker(tws.port)).asked == 0


def test_asking_again_for_what_is_proven_changes_no_file(place: Place) -> None:
    with serving() as tws:
        place.fill(make_broker(tws.port))
        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.raw.folder.iterdir()}
        result = place.fill(make_broker(tws.port), again=True)
    assert (result.asked, result.new, result.revised) == (5, 0, 0)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.raw.folder.iterdir()} == before


def test_nothing_is_asked_for_but_history_contract_and_time_and_no_order_is_ever_sent(place: Place) -> None:
    with serving() as tws:
        place.fill(make_broker(tws.port))
        said = tws.status()
    assert said.orders == ()
    assert set(said.messages) <= {"contract_details", "head_timestamp", "cancel_head_timestamp", "current_time"} | {
        "historical_data"
    }
    assert said.messages["historical_data"] == 5


IB_MODULES = sorted((ROOT / "lstm_ts/sources/ib").glob("*.py"))
assert len(IB_MODULES) > 6


@pytest.mark.parametrize("module", IB_MODULES, ids=lambda path: path.stem)
def test_the_module_cannot_place_an_order(module: Path) -> None:
    tree = ast.parse(module.read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    words = ("order", "exercise", "globalcancel", "bracket", "whatif", "getattr")
    assert not [name for name in names if any(word in name.lower() for word in words)]
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"getattr", "eval", "exec", "vars", "__import__"}


def test_every_method_of_the_client_that_can_be_called_is_one_that_asks() -> None:
    """The list is of both classes that the client is made of; an order could go by no other way."""
    used = set()
    for module in IB_MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name):
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
                used |= {node.attr} if owner in ("ib", "client") else set()
    assert used == {
        "apiError", "cancelHistoricalData", "client", "connectAsync", "disconnect", "errorEvent", "getAccounts",
        "getReqId", "reqContractDetailsAsync", "reqCurrentTimeAsync", "reqHeadTimeStampAsync",
        "reqHistoricalDataAsync", "reqMatchingSymbolsAsync",
    }  # fmt: skip


def test_a_span_without_an_end_goes_to_the_last_closed_minute_and_the_forming_one_is_not_stored(
    tmp_path: Path,
) -> None:
    always = Session(calendar="24/7", zone="UTC")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    ts = pl.datetime_range(now - timedelta(hours=3), now + timedelta(hours=1), "1m", eager=True)
    bars = pl.DataFrame({"ts": ts} | dict.fromkeys(PRICES, 15.0) | {"volume": None, "spread": None}, schema=BAR_SCHEMA)
    place = Place(tmp_path, always)
    with closing(place.ledger), serving(bars) as tws:
        place.fill(make_broker(tws.port, session=always), start=now - timedelta(hours=2), end=None)
        asked_until = max(answer.end for answer in place.answers())
        assert now <= asked_until <= datetime.now(UTC)
        assert place.raw.read_stamps()[-1] == asked_until - MINUTE


def test_the_first_bar_bounds_the_start(place: Place) -> None:
    with serving() as tws:
        result = place.fill(make_broker(tws.port), start=datetime(2014, 1, 1, tzinfo=UTC))
        assert result.asked == 5
        assert min(answer.start for answer in place.answers()) == TRUTH["ts"][0]


def test_a_start_that_nobody_gave_is_that_of_what_is_stored(place: Place) -> None:
    with serving() as tws:
        with pytest.raises(ConfigError, match=r"got none; add span\.start=2024-01-01"):
            place.fill(make_broker(tws.port), start=None)
        place.fill(make_broker(tws.port), start=datetime(2015, 3, 4, 23, tzinfo=UTC))
        place.fill(make_broker(tws.port), start=None)
    assert place.raw.read_stamps()[0] >= datetime(2015, 3, 3, 23, tzinfo=UTC)  # a day before the first end asked for
    assert place.states()["present"] < TRUTH.height


# Faults


UNANSWERED = ("silence", "inactive", "data_lost")
HISTORY_FAULTS = [name for name, kind in FAULTS.items() if kind.meets is Meets.HISTORY and not kind.fatal]


@pytest.mark.parametrize("fault", HISTORY_FAULTS)
def test_a_fault_loses_nothing_and_invents_nothing(place: Place, fault: str) -> None:
    with serving(faults=f"{fault}@3") as tws:
        place.fill(make_broker(tws.port, **({"answer_s": 1.0} if fault in UNANSWERED else {})))
        assert fault in {met["fault"] for met in tws.status().faults}
        stored = place.raw.read()
        assert stored.select("ts").join(TRUTH, on="ts", how="anti").is_empty()
        lacking = TRUTH.join(stored, on="ts", how="anti")["ts"]
        segments = classify(SILVER.spans(START, END), stored["ts"], place.answers())
        for state in ("present", "empty"):
            for start, end in segments.filter(pl.col("state") == state).select("start", "end").rows():
                assert lacking.filter((lacking >= start) & (lacking < end)).is_empty()
        for _ in range(2):
            place.fill(make_broker(tws.port), again=True)
        assert place.raw.read().equals(TRUTH)
        assert place.states() == {"present": TRUTH.height, "empty": missing_minutes(), "waiting": 0, "unknown": 0}


GREETINGS = ("idle", "other_farm", "unsettled")


@pytest.mark.parametrize("notice", GREETINGS)
def test_what_tws_says_right_after_its_greeting_stops_nobody(place: Place, notice: str) -> None:
    two_tries = {"attempts": 2, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults=f"{notice}@1") as tws:
        broker = make_broker(tws.port, retries=two_tries, outage_s=1.0)
        assert broker.connect().head == TRUTH["ts"][0]
        assert [met["fault"] for met in tws.status().faults] == [notice]
        broker.close()
        place.fill(make_broker(tws.port, outage_s=1.0))
    assert place.raw.read().equals(TRUTH)


@pytest.mark.parametrize("notice", GREETINGS)
def test_what_tws_says_after_a_second_greeting_stops_nobody(place: Place, notice: str) -> None:
    with serving(faults=f"{notice}@2,cut@2") as tws:
        place.fill(make_broker(tws.port, outage_s=1.0))
        assert {met["fault"] for met in tws.status().faults} == {"cut", notice}
    assert place.raw.read().equals(TRUTH)


def test_ib_that_stays_away_after_the_greeting_is_waited_for_as_long_as_an_outage_may_take() -> None:
    two_tries = {"attempts": 2, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults="unsettled@1", outage=30) as tws:
        broker, began = make_broker(tws.port, retries=two_tries, outage_s=0.4), time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"got none: IB still unreachable after 0\.4 s; try later"):
            broker.connect()
        assert time.monotonic() - began > 0.4
        broker.close()


def test_a_farm_of_history_disturbs_no_other_request() -> None:
    with serving() as tws:
        broker = make_broker(tws.port)
        broker.connect()
        line = broker._line
        assert line is not None
        for code in (2105, 2107):
            line._on_error(-1, code, "HMDS data farm connection is broken:euhmds")
        assert broker._wire.run(line.ask(line.ib.reqCurrentTimeAsync, timeout_s=WAIT_S))
        broker.close()


def test_revised_bars_are_kept_with_both_values(place: Place) -> None:
    with serving(faults="revised@2") as tws:
        place.fill(make_broker(tws.port))
        said = tws.revised()
        place.fill(make_broker(tws.port), again=True)
    kept = place.raw.read_revisions()
    assert said.height == kept.height > 50
    both = kept.join(said, on="ts", suffix="_said").join(TRUTH, on="ts", suffix="_true")
    assert both.height == kept.height
    assert (both["close"] == both["close_said"]).all()
    assert (both["close_revised"] == both["close_true"]).all()


def test_a_session_that_is_never_answered_stays_unknown_and_is_asked_for_by_the_next_run(place: Place) -> None:
    retries = {"attempts": 1, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults="silence@2") as tws:
        first = place.fill(make_broker(tws.port, retries=retries, answer_s=2.0))
        assert first.unanswered == 1
        assert 1300 < place.states()["unknown"] <= 1380
        place.fill(make_broker(tws.port))
        assert place.states()["unknown"] == 0
    assert place.raw.read().equals(TRUTH)


def test_sessions_that_are_never_answered_keep_nobody_from_the_others(place: Place) -> None:
    one_try = {"attempts": 1, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults="silence@1,silence@2,silence@3,silence@4") as tws:
        result = place.fill(make_broker(tws.port, retries=one_try, answer_s=2.0))
    assert (result.asked, result.unanswered) == (5, 4)
    assert 0 < place.raw.read().height < TRUTH.height


def test_a_run_of_which_nothing_is_answered_fails(place: Place) -> None:
    one_try = {"attempts": 1, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults="other_ip:1") as tws:
        with pytest.raises(BrokerUnavailable, match=r"got none: error 162: .* different IP address; try later"):
            place.fill(make_broker(tws.port, retries=one_try))
        assert tws.status().messages["historical_data"] == 5


def test_minutes_far_from_those_about_them_are_left_out_and_stay_unknown(place: Place) -> None:
    bad = pl.col("ts") == TRUTH["ts"][-30]
    with serving(TRUTH.with_columns(pl.when(bad).then(pl.col(name) * 10).otherwise(name) for name in PRICES)) as tws:
        for _ in range(2):
            assert place.fill(make_broker(tws.port), commit_s=1000).rejected == 1
    assert place.raw.read().equals(TRUTH.filter(~bad))
    assert place.states()["unknown"] == 1


def test_what_was_answered_before_it_gives_up_is_kept(place: Place) -> None:
    retries = {"attempts": 2, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    said = r"Expected answers from IB at .*, got none: .*; try later"
    with serving(faults="refused@3", outage=30) as tws, pytest.raises(BrokerUnavailable, match=said):
        place.fill(make_broker(tws.port, retries=retries), commit_s=1000)
    assert len(place.answers()) == 2
    assert 0 < place.raw.read().height < TRUTH.height


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("invalid", "error 321: .*correct symbol.contract"),
        ("permission", "error 354: .*subscribe to the market data"),
        ("competing", "error 10197: .*log out of the other session"),
    ],
)
def test_what_asking_again_does_not_mend_is_one_sentence(place: Place, fault: str, words: str) -> None:
    with serving(faults=f"{fault}@2") as tws, pytest.raises(BrokerError, match=words) as caught:
        place.fill(make_broker(tws.port), commit_s=1000)
    assert "\n" not in str(caught.value)
    assert len(place.answers()) == 1


@pytest.mark.parametrize("seed", range(6))
def test_stamps_in_a_wrong_zone_are_refused_and_not_one_of_them_is_stored(place: Place, seed: int) -> None:
    with serving(faults="wrong_zone@1", seed=seed) as tws:
        with pytest.raises(WrongZone, match="check the zone of TWS"):
            place.fill(make_broker(tws.port))
        with pytest.raises(NoRows):
            place.raw.read()
        assert place.answers() == []
        place.fill(make_broker(tws.port))
    assert place.raw.read().equals(TRUTH)


def test_an_hour_without_bars_is_no_wrong_zone(place: Place) -> None:
    quiet = datetime(2015, 3, 3, 17, tzinfo=UTC)
    bars = TRUTH.filter(~pl.col("ts").is_between(quiet, quiet + timedelta(minutes=59)))
    with serving(bars) as tws:
        place.fill(make_broker(tws.port))
    assert place.raw.read().equals(bars)


def test_ibs_clock_is_looked_at_again_once_it_is_back(place: Place) -> None:
    with serving(faults="maintained@2") as tws:
        place.fill(make_broker(tws.port))
        said = tws.status()
    assert (said.connections, said.messages["current_time"]) == (1, 2)


def test_nothing_is_asked_of_a_connection_that_knows_ib_is_away() -> None:
    with serving() as tws:
        broker = make_broker(tws.port)
        broker.connect()
        line = broker._line
        assert line is not None
        line._on_error(-1, 1100, "Connectivity between IB and Trader Workstation has been lost.")
        with pytest.raises(ib.RetryableError, match="IB is unreachable"):
            broker._wire.run(line.ask(line.ib.reqCurrentTimeAsync, timeout_s=WAIT_S))
        line._on_error(-1, 1101, "Connectivity between IB and Trader Workstation has been restored - data lost.")
        assert line.unsure
        assert [batch.bars.height > 0 for batch in broker.fetch_batches([(END - timedelta(hours=1), END)])] == [True]
        assert not line.unsure
        broker.close()


def test_a_bar_that_cannot_be_is_named_and_its_minute_stays_unknown(place: Place) -> None:
    bad = pl.col("ts") == TRUTH["ts"][100]
    with serving(TRUTH.with_columns(high=pl.when(bad).then(1.0).otherwise("high"))) as tws:
        for _ in range(2):
            assert place.fill(make_broker(tws.port)).rejected == 1
    assert place.states()["unknown"] == 1
    assert place.raw.read().equals(TRUTH.filter(~bad))
    named = pl.read_csv(place.rejects)
    assert named["reason"].to_list() == ["high below low"] * 2
    assert f"{TRUTH['ts'][100]:%Y-%m-%d %H:%M}" in named["text"][0]


def test_of_a_session_with_too_many_bad_bars_nothing_is_stored_and_the_others_are(place: Place) -> None:
    bad = pl.col("ts").is_between(END - timedelta(hours=24), END) & (pl.col("ts").dt.minute() == 7)
    with (
        serving(TRUTH.with_columns(high=pl.when(bad).then(1.0).otherwise("high"))) as tws,
        pytest.raises(BrokerError, match=r"at most 1\.00 % bad rows in an answer of IB XAGUSD .*; max_reject_share"),
    ):
        place.fill(make_broker(tws.port), commit_s=1000)
    assert place.raw.read().equals(TRUTH.filter(pl.col("ts") < END - timedelta(hours=25)))


def test_another_client_id_is_tried_where_one_is_in_use(place: Place) -> None:
    with serving(faults="client_id@1") as tws:
        place.fill(make_broker(tws.port))
        assert tws.status().connections == 2
    assert place.raw.read().equals(TRUTH)


@pytest.mark.slow
def test_the_pace_that_ib_publishes_is_kept(place: Place) -> None:
    bars = make_truth("2014-12-01", "2015-03-01")
    with serving(bars, pace=0.005) as tws:  # half of what is kept: messages jitter on their way
        result = place.fill(make_broker(tws.port, pace=0.01), start=START - timedelta(days=90), end=START)
        assert result.asked > 60  # more than ten minutes' worth
        assert tws.status().messages["historical_data"] == result.asked
        assert tws.status().pace_violations == 0


@pytest.mark.slow
def test_the_pace_is_kept_over_two_runs_that_know_of_each_other_by_the_ledger_alone(place: Place) -> None:
    bars = make_truth("2014-12-01", "2015-03-01")
    with serving(bars, pace=0.01) as tws:  # half of what is kept: messages jitter on their way
        for days in (45, 0):
            start, end = START - timedelta(days=90), START - timedelta(days=days)
            place.fill(make_broker(tws.port, pace=0.02), start=start, end=end)
        assert tws.status().messages["historical_data"] > 60
        assert tws.status().pace_violations == 0


def test_a_second_pacing_violation_in_a_row_waits_for_the_whole_window() -> None:
    with serving(faults="pacing@1,pacing@2,pacing@4") as tws:
        broker, pauses = make_broker(tws.port), []
        broker.connect()
        broker.pacing.identical_s, broker.pacing.window_s = 0.01, 0.02
        asked = partial(broker._request, partial(broker._history, END), END)
        for _ in range(4):
            try:
                asked()
            except ib.RetryableError as again:
                pauses.append(again.pause_s)
        broker.close()
    assert pauses == [0.01, 0.02, 0.01]


# Killed, stopped, resumed


FILL = """
import sys
from pathlib import Path
from tests.test_ib import Place, make_broker
print("ready", flush=True)
place = Place(Path(sys.argv[1]))
place.fill(make_broker(int(sys.argv[2])))
"""


def start_filling(folder: Path, tws: Tws) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FILL, str(folder), str(tws.port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert read_line(process) == "ready"
    return process


@pytest.mark.parametrize(
    ("kill", "waits_s"),
    [pytest.param(signal.SIGKILL, (0.3, 0.6, 0.9), marks=pytest.mark.slow), (signal.SIGINT, (0.7,))],
)
def test_a_run_that_is_stopped_at_any_moment_claims_nothing_it_has_not_stored(
    place: Place, kill: int, waits_s: tuple[float, ...]
) -> None:
    with serving(faults="slow") as tws:
        tws.set_faults("slow:1")
        for wait_s in waits_s:
            process = start_filling(place.raw.folder.parents[1], tws)
            time.sleep(wait_s)
            process.send_signal(kill)
            output(process)
            stamps = place.raw.read_stamps()
            for answer in place.answers():
                within = stamps.filter((stamps >= answer.start) & (stamps < answer.end))
                truth = TRUTH.filter(pl.col("ts") >= answer.start, pl.col("ts") < answer.end)["ts"]
                assert within.len() >= answer.bars == truth.len()
        tws.set_faults("")
        for _ in range(2):
            place.fill(make_broker(tws.port))
    assert place.raw.read().equals(TRUTH)
    assert place.states()["empty"] == missing_minutes()


def test_bars_that_were_stored_and_not_noted_are_unknown_where_they_lack_and_are_asked_for_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with serving() as tws:
        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
            killed.setattr(Ledger, "record_answers", die)
            place.fill(make_broker(tws.port), commit_s=1000)
        assert place.raw.read().equals(TRUTH)
        assert place.states()["unknown"] == missing_minutes()
        assert place.fill(make_broker(tws.port)).asked == 5


def test_ctrl_c_of_the_command_is_one_sentence(tmp_path: Path) -> None:
    with serving(faults="silence:1") as tws:
        command = [sys.executable, "-m", "lstm_ts.ingest", "source=ib", f"source.port={tws.port}"]
        command += ["span.start=2015-03-01", f"source.client._target_={CLIENT}.IB"]
        command += [f"paths.data={tmp_path}/d", f"paths.outputs={tmp_path}/o"]
        with child(command, stderr=subprocess.PIPE) as process:
            while "Connected to IB" not in read_line(process, process.stderr):
                pass
            wait_for(lambda: tws.status().messages.get("historical_data"), process=process)
            process.send_signal(signal.SIGINT)
            _, rest = output(process)
    assert process.returncode == 130
    assert "Interrupted: the answers received are stored" in rest and "Traceback" not in rest


def test_ctrl_c_while_a_request_is_sent_is_raised_once(caplog: pytest.LogCaptureFixture) -> None:
    runner = EventLoopRunner(lambda: None, "127.0.0.1", 7497, 1.0)

    async def send() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    async def ask() -> None:
        await asyncio.ensure_future(send())

    with pytest.raises(KeyboardInterrupt):
        runner.run(ask())
    runner.close(None)
    gc.collect()  # asyncio logs what nobody has retrieved
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101])
def test_every_fault_at_random_and_kills_at_random_lose_nothing_and_invent_nothing(seed: int) -> None:
    found, happened = survive(seed, days=60)
    assert found.states["unknown"] == found.states["waiting"] == 0
    assert happened["killed"] > 0
    assert sum(name.startswith("fault ") for name in happened) > 8


# The order of asking


def test_the_newest_session_is_asked_for_first_then_the_waiting_ones_then_the_unknown_ones() -> None:
    sessions = SILVER.spans(datetime(2015, 3, 2, tzinfo=UTC), datetime(2015, 3, 7, tzinfo=UTC))
    first, second, third, fourth, fifth = sessions.rows()
    told = [AnsweredSpan(*session, START, "one", 0) for session in (second, fourth)]
    proven = [AnsweredSpan(*third, START, observer, 0) for observer in ("one", "other")]
    stamps = pl.Series([], dtype=BAR_SCHEMA["ts"])
    assert plan_spans(sessions, stamps, told + proven, again=False) == [fifth, second, fourth, first]
    assert plan_spans(sessions, stamps, told + proven, again=True) == [fifth, second, third, fourth, first]


def test_a_session_longer_than_a_day_is_asked_for_by_the_day() -> None:
    always = pl.DataFrame([(START, START + timedelta(days=2, hours=1))], schema=["opens", "closes"], orient="row")
    asked = plan_spans(always, pl.Series([], dtype=BAR_SCHEMA["ts"]), [], again=False)
    ends = [START + timedelta(days=days) for days in (1, 2)] + [START + timedelta(days=2, hours=1)]
    assert sorted(end for _, end in asked) == ends


# The way in


def test_nobody_there_is_said_with_where_it_looked_and_the_usual_reasons(place: Place) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(
            BrokerUnavailable, match=rf"Expected TWS at 127\.0\.0\.1:{port}, got .*; start it and log in, enab"
        ):
            place.fill(make_broker(port))


def test_a_port_that_is_no_tws_is_said(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(BrokerUnavailable, match=rf"at 127\.0\.0\.1:{port}, got no greeting from there; start it"):
            place.fill(make_broker(port, connect_s=0.3))


def test_it_gives_up_on_a_broker_that_tells_not_even_the_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    one_try = {"attempts": 1, "first_s": 0.0, "longest_s": 0.0, "closed_s": 0.0}
    with serving(faults="silence:1") as tws:
        broker = make_broker(tws.port, retries=one_try, answer_s=1.0)
        monkeypatch.setattr(broker, "_is_there", lambda: False)
        with pytest.raises(BrokerUnavailable, match=r"got none: no answer within 1 s; try later"):
            place.fill(broker)
        assert tws.status().messages["historical_data"] == ib.GIVE_UP


@pytest.mark.parametrize(
    ("names", "wrong"), [([], "no account name"), (["DU1", "U2"], "the live account U2"), (["DU1", ""], "the live")]
)
def test_an_account_without_a_name_is_no_paper_account(names: list[str], wrong: str) -> None:
    with pytest.raises(BrokerError, match=f"Expected a paper account at here:1, got {wrong}"):
        check_account(names, "here:1", live=False)
    check_account(names, "here:1", live=True)
    check_account(["DU1", "DF2"], "here:1", live=False)


def test_a_live_account_is_refused_unless_it_is_wanted(place: Place) -> None:
    with serving(account="U1234567") as tws:
        with pytest.raises(BrokerError, match=r"a paper account .* got the live account U1234567; .*source\.live=true"):
            place.fill(make_broker(tws.port))
        assert "historical_data" not in tws.status().messages
        place.fill(make_broker(tws.port, live=True))
    assert place.raw.read().equals(TRUTH)


@pytest.mark.parametrize(("skew_s", "sign"), [(-120, "-"), (120, "+")])
def test_a_clock_that_is_off_is_refused(place: Place, skew_s: int, sign: str) -> None:
    with serving(clock_skew=skew_s) as tws:
        with pytest.raises(BrokerError, match=rf"within 30 s of .*, got one \{sign}1[12]\d s from it"):
            place.fill(make_broker(tws.port))
        assert "historical_data" not in tws.status().messages


def test_an_unknown_contract_and_an_ambiguous_one_are_named(place: Place) -> None:
    with serving() as tws, pytest.raises(BrokerError, match=r"XAGEUR CMDTY .*error 200: .*; correct symbol\.contract"):
        place.fill(make_broker(tws.port, contract=CONTRACT | {"symbol": "XAGEUR"}))
    two = r"got 2: XAGUSD CMDTY SMART USD \(conId 77124483\), XAGUSD CMDTY LME USD \(conId \d+\); set symbol\.contract"
    with serving(faults="two_contracts@1") as tws, pytest.raises(BrokerError, match=two):
        place.fill(make_broker(tws.port))


def test_a_contract_by_its_number_is_found_and_a_field_that_ib_has_not_is_said(place: Place) -> None:
    with serving() as tws:
        broker = make_broker(tws.port, contract=CONTRACT | {"conId": 77124483})
        assert broker.connect().head == TRUTH["ts"][0]
        broker.close()
        with pytest.raises(BrokerError, match=r"XAGEUR CMDTY SMART USD 1 from IB .*IB knows nothing similar"):
            place.fill(make_broker(tws.port, contract=CONTRACT | {"symbol": "XAGEUR", "conId": 1}))
        with pytest.raises(ConfigError, match=r"Expected fields of IB's Contract in symbol\.contract, got: .*'foo'"):
            place.fill(make_broker(tws.port, contract=CONTRACT | {"foo": 1}))


def test_what_is_wrong_on_connecting_again_is_said_and_no_contract_is_looked_for(place: Place) -> None:
    with serving() as tws:
        broker = make_broker(tws.port)
        broker._line = broker._open()
        broker._line.ib.disconnect()
        broker._line.closed = True
        broker.max_skew_s = -10.0
        with pytest.raises(BrokerError, match=r"got one .* from it; synchronise this machine's clock$"):
            broker._find_contract()
        broker.close()


def test_a_span_in_the_future_is_refused_before_anybody_is_asked(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"span\.start before span\.end and before now"):
        place.fill(make_broker(1), start=datetime.now(UTC) + timedelta(days=1), end=None)
    with pytest.raises(ConfigError, match=r"span\.start before span\.end"):
        place.fill(make_broker(1), start=END, end=START)


def test_the_command_says_one_sentence_and_ends_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lstm_ts.ingest", "source=ib", "source.port=1", "span.start=2015-03-01"]
    command += [f"source.client._target_={CLIENT}.IB", f"paths.data={tmp_path}/d", f"paths.outputs={tmp_path}/o"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 2
    [said] = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert said.startswith("Error: Expected TWS at 127.0.0.1:1, got ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()


# Errors and pacing


@pytest.mark.parametrize(
    ("code", "text", "action"),
    [
        (162, "Historical Market Data Service error message:Historical data request pacing violation", Action.WAIT),
        (162, "Historical Market Data Service error message:HMDS query returned no data: XAGUSD@SMART", Action.EMPTY),
        (162, "Historical Market Data Service error message:API historical data query cancelled: 7", Action.RETRY),
        (162, "Historical Market Data Service error message:Trading TWS session is connected from", Action.RETRY),
        (162, "Historical Market Data Service error message:No market data permissions for SMART", Action.ALERT),
        (321, "Error validating request", Action.FATAL),
        (203, "The security XAGUSD is not available or allowed for this account", Action.ALERT),
        (2999, "news of another farm", Action.RETRY),
        (2199, "news of another farm", Action.INFORM),
        (99999, "what nobody knows", Action.RETRY),
    ],
)
def test_a_code_means_what_ib_says(code: int, text: str, action: Action) -> None:
    assert explain(code, text).action is action


def test_every_error_that_ends_a_run_comes_with_advice() -> None:
    ends = {Action.FATAL, Action.ALERT}
    assert all(meaning.advice for meaning in MEANINGS.values() if meaning.action in ends)


def test_a_farm_is_known_by_its_name_in_every_notice() -> None:
    assert place_of(2105, "HMDS data farm connection is broken:ushmds") == "ushmds"
    assert place_of(2106, "HMDS data farm connection is OK:ushmds") == "ushmds"
    assert (
        place_of(2107, "HMDS data farm connection is inactive but should be available upon demand.ushmds") == "ushmds"
    )
    assert place_of(1100, "Connectivity between IB and Trader Workstation has been lost.") == "IB"


def test_connecting_again_waits_longer_while_the_market_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = {"attempts": 2, "first_s": 0.0, "longest_s": 0.0, "closed_s": 300.0}
    broker = make_broker(1, retries=retries)
    for now, pause_s in ((datetime(2015, 3, 7, 12), 300.0), (datetime(2015, 3, 6, 12), 0.0)):
        monkeypatch.setattr(broker, "_now", lambda now=now: now.replace(tzinfo=UTC))
        with pytest.raises(ib.RetryableError) as caught:
            broker._ready_line()
        assert caught.value.pause_s == pause_s
    broker.close()


def make_pacing(scale: float = 1.0) -> Pacing:
    return Pacing(identical_s=15, burst_s=2, burst_requests=2, window_s=600, window_requests=4, scale=scale)


def test_requests_wait_for_the_slowest_of_the_rules() -> None:
    pacing = make_pacing()
    assert pacing.delay("a", 0.0) == 0.0
    pacing.note("a", 0.0)
    assert pacing.delay("a", 1.0) == 14.0
    assert pacing.delay("b", 1.0) == 0.0
    pacing.note("b", 1.0)
    assert pacing.delay("c", 1.5) == 0.5
    for name, now in (("c", 2.0), ("d", 4.0)):
        assert pacing.delay(name, now) == 0.0
        pacing.note(name, now)
    assert pacing.delay("e", 10.0) == 590.0
    assert make_pacing(scale=0).delay("a", 0.0) == 0.0


def test_requests_of_other_processes_count() -> None:
    pacing = make_pacing()
    pacing.recall([-300.0, -200.0, -100.0, -50.0])
    assert pacing.delay("a", 0.0) == 300.0


def test_a_long_run_keeps_no_more_requests_than_the_rules_need() -> None:
    pacing = make_pacing()
    now = 0.0
    for request in range(1000):
        now += pacing.delay(request, now)
        pacing.note(request, now)
    assert len(pacing._sent) <= 6
    assert now == pytest.approx(1000 / 4 * 600, rel=0.01)


@pytest.mark.parametrize("changes", [{"port": 0}, {"answer_s": 0}, {"retries": dict.fromkeys(
    ("attempts", "first_s", "longest_s", "closed_s"), 0)}, {"contract": None}, {"session": None},
    {"client": partial(os.getcwd)}])  # fmt: skip
def test_a_value_out_of_range_is_a_config_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_broker(**{"port": 7497} | changes)


def test_ibs_errors_are_no_noise_of_our_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lstm_ts"), serving(faults="pacing@2") as tws:
        place.fill(make_broker(tws.port))
    again = [
        record for record in caplog.records if record.name == "lstm_ts.sources.retries" and "Retrying" in record.message
    ]
    assert len(again) == 1 and "pacing violation" in again[0].message
