"""The simulated TWS, met by the unmodified client: ib_insync, or the module that TWS_CLIENT names (ib_async).

Each test of one fault asks for it at a request, never by chance.
"""

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from processes import WAIT_S, child, listens, output, read_line, wait_for

from tests.tws import Tws, parse_faults
from tests.tws.faults import FAULTS, Meets, Schedule
from tests.tws.history import Pace

ibi = importlib.import_module(os.environ.get("TWS_CLIENT", "ib_insync"))
DAY = datetime(2015, 3, 3, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
HOUR = timedelta(hours=1)
SILVER = ibi.Contract(symbol="XAGUSD", secType="CMDTY", exchange="SMART", currency="USD")
COLUMNS = {"ts": pl.Datetime("us", "UTC"), **dict.fromkeys(("open", "high", "low", "close"), pl.Float64)}
OUTAGE_S = 0.3


def make_bars(days: int = 3) -> pl.DataFrame:
    """Every minute of the days, but for the hour from 22:00, and for 12:00 to 13:59 of the second day."""
    ts = pl.datetime_range(DAY, DAY + timedelta(days=days), "1m", closed="left", time_unit="us", eager=True)
    close = 16 + pl.int_range(len(ts), eager=True) / 1000
    bars = pl.DataFrame({"ts": ts, "open": close - 0.001, "high": close + 0.002, "low": close - 0.003, "close": close})
    gap = pl.col("ts").is_between(NOON + 24 * HOUR, NOON + 26 * HOUR, closed="left")
    return bars.filter(pl.col("ts").dt.hour() != 22, ~gap).with_columns(pl.exclude("ts").round(4))


BARS = make_bars()


def between(first: datetime, last: datetime) -> pl.DataFrame:
    return BARS.filter(pl.col("ts").is_between(first, last, closed="left"))


class Client:
    """The unmodified client, and every error or notice it is told."""

    def __init__(self, tws: Tws, number: int = 1, *, readonly: bool = True) -> None:
        self.told: list[tuple[int, str]] = []
        self.contract = SILVER
        self.connect(tws, number, readonly=readonly)

    def connect(self, tws: Tws, number: int, *, readonly: bool = True) -> None:
        self.ib = ibi.IB()
        self.ib.client.MaxRequests = 0  # else the client itself holds back what comes after 45 messages in a second
        self.ib.errorEvent += lambda _, code, text, __: self.told.append((code, text))
        self.ib.connect("127.0.0.1", tws.port, clientId=number, timeout=WAIT_S, readonly=readonly)

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.told if code not in (2104, 2106, 2158)]

    def fetch(self, end: datetime = NOON, duration: str = "3600 S", *, wait_s: float = 20) -> pl.DataFrame:
        bars = self.ib.reqHistoricalData(
            self.contract, end, duration, "1 min", "MIDPOINT", False, formatDate=2, timeout=wait_s
        )
        rows = [(bar.date, bar.open, bar.high, bar.low, bar.close) for bar in bars]
        return pl.DataFrame(rows, schema=COLUMNS, orient="row")


@contextmanager
def client(tws: Tws, number: int = 1, *, readonly: bool = True) -> Iterator[Client]:
    client = Client(tws, number, readonly=readonly)
    try:
        yield client
    finally:
        client.ib.disconnect()


@contextmanager
def met(faults: str, **options: object) -> Iterator[tuple[Tws, Client]]:
    """A server of its own, so that its count of requests begins here."""
    with Tws(BARS, faults=faults, pace=0, **{"outage": OUTAGE_S, **options}) as tws, client(tws) as one:
        yield tws, one


@pytest.fixture(scope="module", autouse=True)
def event_loop() -> None:
    """What the client runs on; an asyncio.run of an earlier test has left none."""
    asyncio.set_event_loop(asyncio.new_event_loop())


@pytest.fixture(scope="module")
def shared() -> Iterator[Tws]:
    with Tws(BARS, pace=0, outage=OUTAGE_S) as tws:
        yield tws


def meeting(tws: Tws, faults: str) -> Tws:
    tws.set_faults(faults)
    return tws


@pytest.fixture
def quiet(shared: Tws) -> Tws:
    shared.set_faults("")
    return shared


TRUTH = between(NOON - HOUR, NOON)


# Without faults


def test_the_bars_of_a_day_are_those_of_the_file(quiet: Tws) -> None:
    with client(quiet) as one:
        day = one.fetch(DAY + timedelta(days=1), "1 D")
    assert day.height == 23 * 60
    assert day.equals(between(DAY, DAY + timedelta(days=1)))


def test_a_bar_has_no_volume(quiet: Tws) -> None:
    with client(quiet) as one:
        (bar,) = one.ib.reqHistoricalData(SILVER, NOON, "60 S", "1 min", "MIDPOINT", False, formatDate=2)
    assert (bar.volume, bar.average, bar.barCount) == (-1, -1, -1)
    assert bar.date == NOON - timedelta(minutes=1)


def test_stamps_in_local_time_are_the_same_minutes(quiet: Tws) -> None:
    with client(quiet) as one:
        bars = one.ib.reqHistoricalData(SILVER, NOON, "120 S", "1 min", "MIDPOINT", False, formatDate=1)
    assert [bar.date for bar in bars] == [NOON - timedelta(minutes=2), NOON - timedelta(minutes=1)]
    assert str(bars[0].date.tzinfo) == "US/Eastern"


def test_a_span_without_bars_has_no_data(quiet: Tws) -> None:
    with client(quiet) as one:
        assert one.fetch(DAY + 23 * HOUR, "3600 S").is_empty()
        assert one.fetch(NOON + 26 * HOUR, "7200 S").is_empty()
        assert one.codes == [162, 162]
        assert "HMDS query returned no data: XAGUSD@SMART Midpoint" in one.told[-1][1]


def test_a_contract_is_found_and_begins_with_the_file(quiet: Tws) -> None:
    with client(quiet) as one:
        (details,) = one.ib.reqContractDetails(SILVER)
        assert (details.contract.conId, details.minTick, details.timeZoneId) == (77124483, 0.001, "US/Eastern")
        assert details.contract.secType == "CMDTY"
        one.contract = ibi.Contract(conId=77124483, exchange="SMART")
        assert one.fetch().equals(TRUTH)
        for form in (1, 2):
            head = one.ib.reqHeadTimeStamp(SILVER, "MIDPOINT", False, form)
            assert head.replace(tzinfo=UTC) == DAY


def test_an_unknown_contract_is_error_200(quiet: Tws) -> None:
    with client(quiet) as one:
        for wrong in ({"symbol": "XAGXXX"}, {"secType": "CASH"}, {"exchange": "IDEALPRO"}, {"currency": "EUR"}):
            names = {"symbol": "XAGUSD", "secType": "CMDTY", "exchange": "SMART", "currency": "USD"}
            assert one.ib.reqContractDetails(ibi.Contract(**names | wrong)) == []
        assert one.codes == [200] * 4


@pytest.mark.parametrize(
    ("end", "duration", "size", "show", "code"),
    [
        ("20150303 12:00:00", "1 D", "1 min", "MIDPOINT", 10314),
        ("20150303-25:00:00", "1 D", "1 min", "MIDPOINT", 10314),
        ("20150303-12:00:00", "1 Y", "1 min", "MIDPOINT", 321),
        ("20150303-12:00:00", "0 S", "1 min", "MIDPOINT", 321),
        ("20150303-12:00:00", "1 D", "1 hour", "MIDPOINT", 321),
        ("20150303-12:00:00", "1 D", "1 min", "TRADES", 162),
    ],
)
def test_a_bad_request_is_refused(quiet: Tws, end: str, duration: str, size: str, show: str, code: int) -> None:
    with client(quiet) as one:
        assert not one.ib.reqHistoricalData(SILVER, end, duration, size, show, False, formatDate=2, timeout=1)
        assert one.codes[0] == code  # after a 321, ib_async waits for its time-out


def test_an_end_may_be_said_in_three_ways(quiet: Tws) -> None:
    with client(quiet) as one:
        for end in ("20150303-12:00:00", "20150303 12:00:00 UTC", "20150303 07:00:00 US/Eastern"):
            assert one.fetch(end).equals(TRUTH)


def test_two_symbols_have_their_own_bars() -> None:
    gold = BARS.with_columns(pl.exclude("ts") * 100)
    with Tws({"XAGUSD": BARS, "XAUUSD": gold}, pace=0) as tws, client(tws) as one:
        one.contract = ibi.Contract(symbol="XAUUSD", secType="CMDTY", exchange="SMART", currency="USD")
        assert one.fetch()["close"].to_list() == pytest.approx((TRUTH["close"] * 100).to_list())


def test_the_start_asks_for_nothing_that_is_not_answered(quiet: Tws) -> None:
    for readonly in (True, False):
        began = time.monotonic()
        with client(quiet, readonly=readonly) as one:
            assert time.monotonic() - began < 1
            assert one.ib.managedAccounts() == ["DU1234567"]
            assert one.ib.client.serverVersion() == one.ib.client.MaxClientVersion


def test_a_client_id_is_taken_while_it_is_connected(quiet: Tws) -> None:
    with client(quiet, 7), pytest.raises((ConnectionError, TimeoutError)):
        ibi.IB().connect("127.0.0.1", quiet.port, clientId=7, timeout=1, readonly=True)
    with client(quiet, 7) as again:
        assert again.fetch().equals(TRUTH)


def test_an_order_is_refused_and_recorded() -> None:
    with Tws(BARS, pace=0) as tws, client(tws, readonly=False) as one:
        assert tws.status().orders == ()
        trade = one.ib.placeOrder(SILVER, ibi.MarketOrder("BUY", 1))
        one.ib.cancelOrder(trade.order)
        one.ib.reqGlobalCancel()
        one.ib.reqCurrentTime()  # what came before has been answered
        assert tws.status().orders == ("place_order", "cancel_order", "global_cancel")
        assert one.codes == [321, 321, 321]
        assert "Read-Only" in one.told[-1][1]


def test_the_clock_and_the_account_are_options() -> None:
    with Tws(BARS, pace=0, clock_skew=120, account="U1234567") as tws, client(tws) as one:
        assert one.ib.managedAccounts() == ["U1234567"]
        ahead = one.ib.reqCurrentTime() - datetime.now(UTC)
        assert timedelta(seconds=117) < ahead <= timedelta(seconds=121)


def test_no_bar_of_the_future_is_known_and_the_forming_one_has_one_price() -> None:
    with Tws(BARS, pace=0) as tws, client(tws) as one:
        tws.set_clock(NOON + timedelta(seconds=10))
        bars = one.fetch("")
        assert one.fetch(NOON + HOUR, "7200 S").equals(bars.vstack(TRUTH)[:0].vstack(one.fetch("", "3610 S")))
        forming = between(NOON, NOON + timedelta(minutes=1)).row(0, named=True)
        assert bars[:-1].equals(TRUTH[1:])
        assert bars.row(-1) == (NOON, *[forming["open"]] * 4)


# Faults that are said


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("pacing", 162, "pacing violation"),
        ("cancelled", 162, "query cancelled"),
        ("other_ip", 162, "different IP address"),
        ("invalid", 321, "Error validating request"),
        ("permission", 354, "not subscribed"),
        ("competing", 10197, "competing live session"),
    ],
)
def test_a_request_is_refused_once(shared: Tws, fault: str, code: int, text: str) -> None:
    with client(meeting(shared, f"{fault}@2")) as one:
        assert one.fetch().equals(TRUTH)
        assert one.fetch(NOON - HOUR, wait_s=1).is_empty()
        assert one.codes[0] == code
        assert text in next(said for number, said in one.told if number == code)
        assert one.fetch().equals(TRUTH)
        assert shared.status().faults[-1]["fault"] == fault


def test_after_1101_nothing_comes_of_what_was_asked(shared: Tws) -> None:
    with client(meeting(shared, "data_lost@1")) as one:
        assert one.fetch(wait_s=3 * OUTAGE_S).is_empty()
        assert one.codes[:2] == [1100, 1101]
        assert one.fetch().equals(TRUTH)


def test_after_1102_the_answer_comes_late(shared: Tws) -> None:
    with client(meeting(shared, "maintained@1")) as one:
        began = time.monotonic()
        assert one.fetch().equals(TRUTH)
        assert time.monotonic() - began >= OUTAGE_S
        assert one.codes == [1100, 1102]


def test_who_connects_in_an_outage_is_told() -> None:
    with met("data_lost@1", outage=0.6) as (tws, one):
        one.fetch(wait_s=0.05)
        with client(tws, 2) as other:
            assert other.codes == [2110]
            assert other.fetch(wait_s=0.8).is_empty()
            assert other.codes[:2] == [2110, 1101]
            assert other.fetch().equals(TRUTH)


def test_farms_break_and_come_back(shared: Tws) -> None:
    with client(meeting(shared, "farms@1")) as one:
        assert one.fetch().equals(TRUTH)
        assert one.codes == [2103, 2105, 165]
        assert [code for code, _ in one.told][-2:] == [2104, 2106]


def test_an_inactive_farm_is_woken_by_the_next_request(shared: Tws) -> None:
    with client(meeting(shared, "inactive@1")) as one:
        assert one.fetch(wait_s=0.2).is_empty()
        assert one.codes[0] == 2107
        assert one.fetch().equals(TRUTH)
        assert one.told[-1][0] == 2106


def test_a_cut_answer_ends_the_connection(shared: Tws) -> None:
    with client(meeting(shared, "cut@1")) as one:
        ended = []
        one.ib.disconnectedEvent += lambda: ended.append(True)
        with pytest.raises(ConnectionError):
            one.fetch()
        assert ended
        with client(shared) as again:
            assert again.fetch().equals(TRUTH)


@pytest.mark.parametrize(("fault", "codes"), [("refused", []), ("daily_reset", [1100])])
def test_connections_are_refused_for_a_while(fault: str, codes: list[int]) -> None:
    with met(f"{fault}@1") as (tws, one), socket.create_connection(("127.0.0.1", tws.port), timeout=2) as bystander:
        with pytest.raises(ConnectionError):
            one.fetch()
        assert one.codes == codes
        with pytest.raises(ConnectionRefusedError):
            Client(tws, 3)
        with suppress(ConnectionResetError):
            assert not bystander.recv(1)
        time.sleep(1.5 * OUTAGE_S)
        with client(tws) as again:
            assert again.fetch().equals(TRUTH)


def test_the_daily_reset_comes_by_ibs_clock() -> None:
    with met("", reset="23:45") as (tws, one):
        tws.set_clock(datetime(2015, 3, 4, 23, 44, 59, 800000, tzinfo=UTC))
        assert one.fetch().equals(TRUTH)
        with pytest.raises(ConnectionError):
            one.ib.sleep(2)
        assert not one.ib.isConnected()
        time.sleep(1.5 * OUTAGE_S)
        with client(tws) as again:
            assert again.fetch().equals(TRUTH)
        assert [done["fault"] for done in tws.status().faults] == ["daily_reset"]


def test_a_client_id_in_use_is_said_and_another_try_succeeds() -> None:
    with Tws(BARS, pace=0, faults="client_id@1") as tws:
        ib, told = ibi.IB(), []
        ib.errorEvent += lambda _, code, *__: told.append(code)
        with pytest.raises((ConnectionError, TimeoutError)):
            ib.connect("127.0.0.1", tws.port, clientId=1, timeout=1, readonly=True)
        assert told == [326]
        with client(tws, 2) as one:
            assert one.fetch().equals(TRUTH)


# Faults that are late, or show in the answer's shape


def test_silence_is_no_answer(shared: Tws) -> None:
    with client(meeting(shared, "silence@1")) as one:
        assert one.fetch(wait_s=0.3).is_empty()
        assert one.fetch().equals(TRUTH)
        assert one.codes == [162]
        assert "query cancelled" in one.told[-1][1]  # by the client, after its time-out


def test_a_slow_answer_is_whole(shared: Tws) -> None:
    with client(meeting(shared, "slow@1")) as one:
        began = time.monotonic()
        assert one.fetch().equals(TRUTH)
        assert time.monotonic() - began >= 0.9 * OUTAGE_S


def test_duplicates_have_the_same_values() -> None:
    with met("duplicates@1") as (tws, one):
        bars = one.fetch()
        (done,) = tws.status().faults
        assert bars.height == TRUTH.height + done["bars"] > TRUTH.height
        assert bars.unique().sort("ts").equals(TRUTH)


def test_bars_from_before_the_span_are_true() -> None:
    with met("earlier@1") as (tws, one):
        bars = one.fetch()
        (done,) = tws.status().faults
        assert bars.height == TRUTH.height + done["bars"] > TRUTH.height
        assert bars.equals(between(bars["ts"][0], NOON))


def test_a_wrong_zone_shifts_every_stamp_by_hours() -> None:
    with met("wrong_zone@1") as (_, one):
        bars, truth = one.fetch(DAY + 24 * HOUR, "1 D"), between(DAY, DAY + 24 * HOUR)
        (shift,) = (bars["ts"] - truth["ts"]).unique()
        assert shift != timedelta() and shift % HOUR == timedelta()
        assert bars.drop("ts").equals(truth.drop("ts"))
        # What tells it from an answer that begins earlier: bars in the closed hour, or after the span.
        assert not bars.filter((pl.col("ts").dt.hour() == 22) | (pl.col("ts") >= DAY + 24 * HOUR)).is_empty()


def test_the_contracts_zone_changes_and_no_stamp_does(shared: Tws) -> None:
    with client(meeting(shared, "time_zone@1")) as one:
        (other,), (usual,) = (one.ib.reqContractDetails(SILVER) for _ in range(2))
        assert (other.timeZoneId, usual.timeZoneId) == ("EST", "US/Eastern")
        assert one.fetch().equals(TRUTH)


def test_two_contracts_are_ambiguous(shared: Tws) -> None:
    with client(meeting(shared, "two_contracts@1")) as one:
        assert [details.contract.exchange for details in one.ib.reqContractDetails(SILVER)] == ["SMART", "LME"]
        assert len(one.ib.reqContractDetails(SILVER)) == 1


# Lies


def test_revised_bars_have_other_values_the_first_time() -> None:
    with met("revised@1") as (tws, one):
        first, second = one.fetch(), one.fetch()
        assert second.equals(TRUTH)
        other = first.join(TRUTH, on=TRUTH.columns, how="anti")
        assert other.height == 3
        assert other.sort("ts").equals(tws.revised().select(TRUTH.columns).sort("ts"))
        assert (other["high"] >= other["low"]).all()


@pytest.mark.parametrize("fault", ["no_data", "part"])
def test_a_minute_is_kept_from_one_connection_only(fault: str) -> None:
    with met(f"{fault}@1,{fault}@3") as (tws, one):
        first = one.fetch()
        assert first.height < TRUTH.height
        assert first.join(TRUTH, on=TRUTH.columns, how="anti").is_empty()
        assert one.fetch().equals(first)  # no chance to find out on the same connection
        hidden = TRUTH.join(first, on="ts", how="anti")
        assert tws.status().faults[0]["bars"] == hidden.height
        with client(tws, 2) as other:
            again = other.fetch()  # and lied to as well
            assert hidden.join(again, on="ts", how="anti").is_empty()
            assert other.fetch().equals(again)
        with client(tws, 3) as third:
            assert third.fetch().equals(TRUTH)


def test_a_lie_ends_with_its_day() -> None:
    with met("no_data@1") as (tws, one):
        tws.set_clock(datetime(2015, 3, 6, 23, 59, 59, 500000, tzinfo=UTC))
        assert one.fetch().is_empty()
        one.ib.sleep(0.6)
        assert one.fetch().equals(TRUTH)


# When


def test_a_fault_waits_for_its_minute() -> None:
    with met("cancelled@2015-03-03T10:30") as (tws, one):
        assert one.fetch().height == 60
        assert one.fetch(NOON - HOUR).is_empty()
        assert one.fetch(NOON - HOUR).height == 60
        (done,) = tws.status().faults
        assert done["start"] == int((NOON - 2 * HOUR).timestamp())


def test_the_same_seed_and_requests_meet_the_same_faults() -> None:
    def meet(seed: int) -> list[str | None]:
        schedule = Schedule(parse_faults("all,fatal"), seed=seed, rate=0.05)
        return [schedule.next(Meets.HISTORY)[0] for _ in range(400)]

    assert meet(7) == meet(7) != meet(8)
    counts = Counter(meet(7))
    assert set(counts) - {None} == {name for name, kind in FAULTS.items() if kind.meets is Meets.HISTORY}
    # 20 faults at 0.05, one a request: 1 - 0.95^20 = 0.64 of the requests meet one
    assert 0.57 < 1 - counts[None] / 400 < 0.71


def test_a_probability_is_of_every_request() -> None:
    schedule = Schedule(parse_faults("silence:0.25"), seed=1, rate=0.9)
    assert 200 < sum(schedule.next(Meets.HISTORY)[0] == "silence" for _ in range(1000)) < 300


def ask_for_hours(tws: Tws, one: Client, hours: range) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, set[str]]]:
    """What came, what is true, and which faults were met meanwhile, for each hour; connects again where it must."""
    known = len(tws.status().faults)
    for hour in hours:
        end = DAY + (hour + 1) * HOUR
        try:
            came = one.fetch(end, wait_s=0.4)
        except ConnectionError:
            came = BARS.clear()
        deadline = time.monotonic() + 30
        while not one.ib.isConnected():
            assert time.monotonic() < deadline, "it does not connect again"
            time.sleep(0.02)
            with suppress(ConnectionError, TimeoutError):
                one.connect(tws, number=known)
        faults = tws.status().faults[known:]
        known += len(faults)
        yield came, between(end - HOUR, end), {fault["fault"] for fault in faults}


def test_with_every_fault_an_answer_is_true_unless_one_is_on_record() -> None:
    options = {"faults": "all,fatal", "seed": 3, "rate": 0.03, "pace": 0, "outage": 0.05}
    with Tws(BARS, **options) as tws, client(tws) as one:
        asked = list(ask_for_hours(tws, one, range(66)))
    assert len(set.union(*(faults for _, _, faults in asked))) > 10
    assert [faults for came, true, faults in asked if not came.equals(true)].count(set()) == 0
    assert sum(came.equals(true) for came, true, _ in asked) > 20  # half of them, but for a machine with more to do


def test_the_same_requests_to_two_servers_get_the_same_answers() -> None:
    options = {"faults": "part,revised,duplicates,earlier,wrong_zone", "rate": 0.1, "pace": 0}
    answers = []
    for seed in (5, 5, 6):
        with Tws(BARS, seed=seed, **options) as tws, client(tws) as one:
            answers.append(pl.concat(one.fetch(DAY + hour * HOUR) for hour in range(1, 30)))
    assert answers[0].equals(answers[1])
    assert not answers[0].equals(answers[2])


@pytest.mark.parametrize("wrong", ["silent", "silence:2", "silence@noon", "two_contracts@2015-03-03T10:30"])
def test_a_fault_that_does_not_exist_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        parse_faults(wrong)


# Pacing: https://interactivebrokers.github.io/tws-api/historical_limitations.html


def test_an_identical_request_must_wait_fifteen_seconds() -> None:
    pace = Pace(1)
    assert [pace.breaks("XAGUSD", key, at) for key, at in (("a", 0), ("b", 3), ("a", 14.9), ("b", 18), ("a", 30))] == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_six_requests_for_a_contract_within_two_seconds_are_too_many() -> None:
    pace = Pace(1)
    assert [pace.breaks("XAGUSD", number, number * 0.39) for number in range(6)] == [False] * 5 + [True]
    assert not pace.breaks("XAUUSD", 6, 2)


def test_more_than_sixty_requests_in_ten_minutes_are_too_many() -> None:
    pace = Pace(1)
    assert [pace.breaks("XAGUSD", number, number * 9.9) for number in range(61)] == [False] * 60 + [True]
    assert not pace.breaks("XAGUSD", 61, 610)  # those of 0 and 9.9 no longer count


def test_pacing_is_kept_and_counted() -> None:
    with Tws(BARS, pace=0.02) as tws, client(tws) as one:
        assert one.fetch().equals(TRUTH)
        assert one.fetch().is_empty()
        assert "pacing violation" in one.told[-1][1]
        one.ib.sleep(0.31)
        assert one.fetch().equals(TRUTH)
        assert tws.status().pace_violations == 1


# The process


def test_it_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    BARS.write_parquet(tmp_path / "bars.parquet")
    script = (
        "import pathlib, sys, time; from tests.tws import Tws\n"
        "with Tws(pathlib.Path(sys.argv[1])) as tws: print(tws.port, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, tmp_path / "bars.parquet"]
    with child(command, stdout=subprocess.PIPE) as parent:
        port = int(read_line(parent))
        socket.create_connection(("127.0.0.1", port)).close()
        parent.kill()
    wait_for(lambda: not listens("127.0.0.1", port), 30)


@pytest.mark.parametrize("how", ["lifetime", "SIGTERM"])
def test_it_ends_by_itself_and_says_what_happened(how: str, tmp_path: Path) -> None:
    BARS.write_csv(tmp_path / "bars.csv")
    command = [sys.executable, "-m", "tests.tws", "--bars", tmp_path / "bars.csv", "--lifetime", "0.7"]
    with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        first = read_line(server)
        assert first.startswith("listening on 127.0.0.1:")
        if how == "SIGTERM":
            os.kill(server.pid, signal.SIGTERM)
        rest, errors = output(server)
    assert server.returncode == 0
    assert '"orders": []' in rest
    assert "Traceback" not in errors


def test_what_is_no_client_is_dropped(quiet: Tws) -> None:
    noise = Random(0)
    for greeting in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\0\0\0\x09v1..150\0\0",
        b"API\0\xff\xff\xff\xff",
        noise.randbytes(99),
    ):
        with socket.create_connection(("127.0.0.1", quiet.port), timeout=2) as stranger:
            stranger.sendall(greeting)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    with client(quiet) as one:
        assert one.fetch().equals(TRUTH)
