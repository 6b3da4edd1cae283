import logging
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import WAIT_S, join, let_go, output, read_line, wait_for
from sqlalchemy.exc import DBAPIError

from lstm_ts.errors import LedgerError, RowRefused
from lstm_ts.ledger.alert_rows import Heartbeat
from lstm_ts.ledger.database import REVISIONS, migrate
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.ledger.monitor_rows import DailyScore
from lstm_ts.ledger.monitor_tables import put_daily_scores, read_daily_losses
from lstm_ts.ledger.rows import AliasChange, DecisionRow, ForecastRow, ServedPath
from lstm_ts.ledger.served_days import ServedDay, fold_served, read_served_days
from lstm_ts.ledger.traffic import TrafficRow, put_traffic, read_traffic, remove_inactive
from lstm_ts.market.bars import AnsweredSpan

AT = datetime(2015, 7, 1, 21, 0, 0, 123456, tzinfo=UTC)
DECISION = DecisionRow(
    name="XAGUSD",
    version=2,
    at=AT,
    verdict="promote",
    experimental=False,
    champion=1,
    reasons=("Better by 0.021 bps, p = 0.004.", "Größer als null: √2 > 1."),
    span_start=AT - timedelta(days=181),
    span_end=AT,
    data_sha256="ab" * 32,
)
CHANGE = AliasChange(
    at=AT,
    name="XAGUSD",
    alias="champion",
    action="promote",
    from_version=None,
    to_version=1,
    actor="retrain",
    reason="the first model",
    state="done",
)
FORECAST = ForecastRow(
    request_id="0b5c",
    arm="champion",
    at=AT,
    name="XAGUSD",
    symbol="XAGUSD",
    version=2,
    origin_ts=AT.replace(microsecond=0),
    last_close=15.625,
    path=ServedPath(
        target_ts_H=(AT + timedelta(hours=2), AT + timedelta(hours=3)),
        median_H=(15.63, 15.64),
        lower_80_H=(15.6, 15.1 + 1e-14),
        upper_80_H=(15.66, 16.0),
    ),
    flags=("3 of the window's 48 hours are missing.",),
    latency_ms=2.25,
    input_sha256="cd" * 32,
)
ANSWER = AnsweredSpan(AT - timedelta(hours=23), AT, AT, observer="9f86 2015-07-01", bars=1378)
ALL_TABLES = {
    "alias_changes",
    "answers",
    "daily_scores",
    "decisions",
    "deliveries",
    "findings",
    "forecasts",
    "heartbeats",
    "hourly_forecasts",
    "incident_days",
    "incidents",
    "ledger_identity",
    "monitor_states",
    "outcomes",
    "scores",
    "served_days",
    "silences",
    "traffic",
}
TABLES = ("decisions", "alias_changes", "forecasts", "answers", "ledger_identity")
DAY = {"since": AT, "until": AT + timedelta(days=1)}
# Each script says what it does on stdout, a line at a time, and waits on stdin.
LOADED = """
import logging, os, signal, sys
import sqlalchemy as sa
from lstm_ts.ledger.ledger import Ledger
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
logging.getLogger("alembic").setLevel(logging.WARNING)
print("loaded", flush=True)
sys.stdin.readline()
"""
OPEN = LOADED + "Ledger(sys.argv[1]).close(); print('opened', 'alembic' in sys.modules)"
HOLD = f"""{LOADED}
with Ledger(sys.argv[1]).exclusive(sys.argv[2]):
    print("holding", flush=True)
    sys.stdin.readline()
print("let go", flush=True)
"""
WRITE = f"""{LOADED}
import datetime
from contextlib import closing
from dataclasses import replace
from lstm_ts.ledger.monitor_rows import SCORES, DailyScore
from lstm_ts.ledger.monitor_tables import put_daily_scores, read_daily_losses
from lstm_ts.ledger.rows import AliasChange, DecisionRow
ledger = Ledger(sys.argv[1])
for i in range(25):
    ledger.record_alias(replace({CHANGE}, actor=sys.argv[2], to_version=i))
    ledger.record_decision(replace({DECISION}, version=i, data_sha256=sys.argv[2]))
"""
DIE_WHILE_UPGRADING = f"""{LOADED}
@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE alias_changes" in statement:
        os.kill(os.getpid(), signal.SIGKILL)
Ledger(sys.argv[1])
"""


def execute(url: str, *statements: str) -> None:
    """What another program might do to the database."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def tables(url: str) -> set[str]:
    return set(sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names())


def record_one_of_each(ledger: Ledger) -> None:
    ledger.record_decision(DECISION)
    ledger.record_alias(CHANGE)
    ledger.record_forecasts([FORECAST])
    ledger.record_answers("XAGUSD", "store", "IB", [ANSWER])


def assert_one_of_each(ledger: Ledger) -> None:
    assert ledger.decisions("XAGUSD") == [DECISION]
    assert ledger.alias_changes("XAGUSD", "champion") == [CHANGE]
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST]
    assert ledger.answers("XAGUSD", "store") == [ANSWER]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    yield opened
    opened.close()


def test_a_decision_comes_back_as_it_was(ledger: Ledger) -> None:
    ledger.record_decision(DECISION)
    assert ledger.decisions("XAGUSD") == [DECISION]


def test_a_first_model_was_judged_against_none(ledger: Ledger) -> None:
    first = replace(DECISION, champion=None, experimental=True, reasons=())
    ledger.record_decision(first)
    assert ledger.decisions("XAGUSD") == [first]


def test_a_time_in_another_zone_comes_back_in_utc(ledger: Ledger) -> None:
    new_york = AT.astimezone(timezone(timedelta(hours=-4)))
    ledger.record_decision(replace(DECISION, at=new_york))
    ledger.record_alias(replace(CHANGE, at=new_york))
    found = [ledger.decisions("XAGUSD")[0].at, ledger.alias_changes("XAGUSD", "champion")[0].at]
    assert [at.isoformat() for at in found] == ["2015-07-01T21:00:00.123456+00:00"] * 2


def test_a_second_decision_about_a_version_changes_nothing(ledger: Ledger) -> None:
    ledger.record_decision(DECISION)
    ledger.record_decision(replace(DECISION, verdict="reject", at=AT + timedelta(hours=1)))
    assert ledger.decisions("XAGUSD") == [DECISION]


def test_decisions_are_listed_oldest_first_and_of_one_name(ledger: Ledger) -> None:
    third, second = replace(DECISION, version=3, at=AT + timedelta(microseconds=1)), DECISION
    for row in (third, second, replace(DECISION, name="XAUUSD")):
        ledger.record_decision(row)
    assert ledger.decisions("XAGUSD") == [second, third]
    assert ledger.decisions("nothing") == []


def test_changes_of_an_alias_are_listed_as_recorded_whatever_the_clock_said(ledger: Ledger) -> None:
    intended = replace(CHANGE, state="intended")
    back = replace(CHANGE, at=AT - timedelta(hours=1), action="rollback", from_version=2, to_version=1)
    for change in (intended, CHANGE, back, replace(CHANGE, alias="challenger"), replace(CHANGE, name="XAUUSD")):
        ledger.record_alias(change)
    assert ledger.alias_changes("XAGUSD", "champion") == [intended, CHANGE, back]
    assert ledger.alias_changes("XAGUSD", "nothing") == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.timezones()),
    reason=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
)
def test_any_time_and_any_reason_come_back(ledger: Ledger, at: datetime, reason: str) -> None:
    ledger.record_alias(replace(CHANGE, at=at, reason=reason))
    found = ledger.alias_changes("XAGUSD", "champion")[-1]
    assert (found.at, found.at.tzinfo, found.reason) == (at.astimezone(UTC), UTC, reason)


def test_what_was_recorded_is_there_for_the_next_ledger(ledger_url: str) -> None:
    for _ in range(2):
        ledger = Ledger(ledger_url)
        ledger.record_decision(DECISION)
        assert ledger.decisions("XAGUSD") == [DECISION]
        ledger.close()


def test_a_forecast_comes_back_as_it_was(ledger: Ledger) -> None:
    ledger.record_forecasts([FORECAST])
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST]


def test_a_second_forecast_for_a_request_changes_nothing_and_lets_the_others_in(ledger: Ledger) -> None:
    ledger.record_forecasts([FORECAST])
    again, other = replace(FORECAST, last_close=99.0), replace(FORECAST, request_id="0b5d")
    ledger.record_forecasts([again, other, replace(other, version=7)])
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST, other]


def test_a_request_has_a_forecast_of_each_arm(ledger: Ledger) -> None:
    shadow = replace(FORECAST, arm="shadow", version=3)
    ledger.record_forecasts([shadow, FORECAST])
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST, shadow]


def test_a_request_id_that_a_client_gives_twice_loses_no_forecast(ledger: Ledger) -> None:
    again = replace(FORECAST, at=AT + timedelta(seconds=1), last_close=99.0)
    ledger.record_forecasts([FORECAST, again])
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST, again]


def test_forecasts_are_listed_oldest_first_of_one_name_from_since_to_before_until(ledger: Ledger) -> None:
    later = [
        replace(FORECAST, request_id=key, at=AT + timedelta(hours=hours))
        for key, hours in (("b", 24), ("c", 1), ("d", 2))
    ]
    ledger.record_forecasts([*later, FORECAST, replace(FORECAST, name="XAUUSD", request_id="e")])
    assert [row.request_id for row in ledger.forecasts("XAGUSD", **DAY)] == ["0b5c", "c", "d"]
    late = ledger.forecasts("XAGUSD", since=AT + timedelta(hours=2), until=AT + timedelta(hours=25))
    assert [row.request_id for row in late] == ["d", "b"]


def test_an_answer_comes_back_as_it_was_and_twice_is_once(ledger: Ledger) -> None:
    ledger.record_answers("XAGUSD", "store", "IB", [ANSWER])
    ledger.record_answers("XAGUSD", "store", "IB", [replace(ANSWER, at=AT + timedelta(hours=1), bars=9)])
    ledger.record_answers("XAGUSD", "store", "IB", [])
    assert ledger.answers("XAGUSD", "store") == [ANSWER]
    assert ledger.answers("XAUUSD", "store") == ledger.answers("XAGUSD", "other store") == []


def test_a_source_answered_at_each_moment_once_whatever_the_store(ledger: Ledger) -> None:
    later, hour = AT + timedelta(minutes=7), timedelta(hours=1)
    ledger.record_answers("XAGUSD", "store", "IB", [ANSWER, replace(ANSWER, end=AT - hour)])
    ledger.record_answers("XAGUSD", "other store", "IB", [ANSWER, replace(ANSWER, end=AT - hour, at=later)])
    ledger.record_answers("XAGUSD", "store", "files", [replace(ANSWER, at=AT + hour, observer="files")])
    assert ledger.answered_at("XAGUSD", "IB", since=AT - hour) == [AT, later]
    assert ledger.answered_at("XAGUSD", "IB", since=later) == [later]
    assert ledger.answered_at("XAUUSD", "IB", since=AT) == []


def test_answers_come_by_their_start(ledger: Ledger) -> None:
    hours = [replace(ANSWER, start=AT + timedelta(hours=i), end=AT + timedelta(hours=i + 1)) for i in range(4)]
    ledger.record_answers("XAGUSD", "store", "IB", hours[::-1])
    assert ledger.answers("XAGUSD", "store") == hours


def test_a_heartbeat_takes_the_place_of_the_former_one(ledger: Ledger) -> None:
    first = Heartbeat("monitor", "XAGUSD", AT, "ok")
    others = [replace(first, subject="XAUUSD"), replace(first, component="ingest")]
    for beat in (*others, first, replace(first, at=AT + timedelta(hours=1), detail="late")):
        ledger.record_heartbeat(beat)
    assert ledger.heartbeats() == [others[1], replace(first, at=AT + timedelta(hours=1), detail="late"), others[0]]


def test_what_a_service_says_of_its_traffic_stands_since_it_said_so_first(ledger: Ledger) -> None:
    first = TrafficRow("XAGUSD", "0.0.0.0:8000", AT, True, None, "")
    other = replace(first, service="0.0.0.0:8001", to_challenger=False)
    stop = replace(first, since=AT + timedelta(hours=2), stopped=3, reason="4 of 10 failed")
    for rows in ([first, other], [replace(first, since=AT + timedelta(hours=1)), replace(other, name="XAUUSD")]):
        with ledger.transaction() as connection:
            put_traffic(connection, rows)
            assert read_traffic(connection, "XAGUSD") == [first, other]
    with ledger.transaction() as connection:
        put_traffic(connection, [stop])
        assert read_traffic(connection, "XAGUSD") == [stop, other]


def test_the_word_of_a_service_not_heard_of_is_forgotten_where_another_one_speaks(ledger: Ledger) -> None:
    moved = TrafficRow("XAGUSD", "0.0.0.0:8000", AT, True, None, "")
    here, hours = replace(moved, service="0.0.0.0:8001"), timedelta(hours=1)
    with ledger.transaction() as connection:
        put_traffic(connection, [moved, replace(moved, name="XAUUSD")])
        put_traffic(connection, [here])
        remove_inactive(connection, "XAGUSD", before=AT + hours)
        assert read_traffic(connection, "XAGUSD") == [moved, here]  # of neither was heard
        put_traffic(connection, [replace(here, since=AT + 2 * hours)])
        remove_inactive(connection, "XAGUSD", before=AT + hours)
        assert read_traffic(connection, "XAGUSD") == [here]
        assert read_traffic(connection, "XAUUSD") == [replace(moved, name="XAUUSD")]


def test_no_forecasts_are_no_row(ledger: Ledger, ledger_url: str) -> None:
    ledger.record_forecasts([])
    engine = sa.create_engine(ledger_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT COUNT(*) FROM forecasts")) == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"path": replace(FORECAST.path, median_H=(float("nan"), 15.0))},
        {"path": replace(FORECAST.path, upper_80_H=(float("inf"), 15.0))},
        {"symbol": "\ud800"},
        {"symbol": None},
        {"at": datetime(2015, 7, 1)},
        {"version": 2**70},
    ],
)
def test_a_forecast_that_no_database_can_hold_is_refused_with_its_batch(ledger: Ledger, bad: dict[str, object]) -> None:
    with pytest.raises(RowRefused, match="one it refuses"):
        ledger.record_forecasts([FORECAST, replace(FORECAST, request_id="bad", **bad)])
    assert ledger.forecasts("XAGUSD", **DAY) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE forecasts SET version = 7",
        "DELETE FROM forecasts",
        "UPDATE decisions SET verdict = 'reject'",
        "DELETE FROM decisions",
        "UPDATE alias_changes SET to_version = 7",
        "DELETE FROM alias_changes WHERE id = 1",
        "UPDATE answers SET bars = 0",
        "DELETE FROM answers",
        "UPDATE ledger_identity SET id = 'mine'",
    ],
)
def test_no_row_can_be_changed_or_removed(ledger: Ledger, ledger_url: str, statement: str) -> None:
    record_one_of_each(ledger)
    with pytest.raises(
        DBAPIError, match=r"rows of (decisions|alias_changes|forecasts|answers|ledger_identity) are never"
    ):
        execute(ledger_url, statement)
    assert_one_of_each(ledger)


def test_served_forecasts_of_old_days_leave_as_sums_and_younger_ones_stay(ledger: Ledger) -> None:
    flagged = replace(FORECAST, request_id="b", at=AT + timedelta(hours=2, minutes=59), flags=())
    shadow = replace(FORECAST, arm="shadow", version=3)
    next_day, young = (replace(FORECAST, at=AT.replace(hour=0) + timedelta(days=days)) for days in (1, 2))
    gold = replace(FORECAST, name="XAUUSD", request_id="c")
    ledger.record_forecasts([FORECAST, replace(flagged, latency_ms=1.75), shadow, next_day, young, gold])
    before = (AT + timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert [fold_served(ledger, "XAGUSD", before=before) for _ in range(2)] == [4, 0]
    assert ledger.forecasts("XAGUSD", since=AT - timedelta(days=9), until=AT + timedelta(days=9)) == [young]
    assert ledger.forecasts("XAUUSD", **DAY) == [gold]
    first = ServedDay("XAGUSD", "XAGUSD", 2, "champion", "2015-07-01", 2, 1, 4.0)
    rest = [replace(first, arm="shadow", version=3, forecasts=1, latency_ms=2.25)]
    rest.append(replace(first, day="2015-07-02", forecasts=1, latency_ms=2.25))
    with ledger.transaction() as connection:
        assert read_served_days(connection, "XAGUSD") == [first, *rest]
    ledger.record_forecasts([FORECAST])  # late: it is not in the sums, and so it stays
    assert fold_served(ledger, "XAGUSD", before=before) == 0
    assert ledger.forecasts("XAGUSD", **DAY) == [FORECAST]


def test_a_forecast_cannot_leave_uncounted(ledger: Ledger, ledger_url: str) -> None:
    ledger.record_forecasts([FORECAST, replace(FORECAST, request_id="b"), replace(FORECAST, arm="shadow")])
    mark = "INSERT INTO served_days VALUES ('XAGUSD', 'XAGUSD', 2, 'champion', '2015-07-01', {}, 0, 1.0)"
    for wrong in (mark.format(1), mark.format(3), mark.format(2).replace("07-01", "07-02")):
        with pytest.raises(DBAPIError, match="counts each forecast of its day"):
            execute(ledger_url, wrong)
    execute(ledger_url, mark.format(2))
    for statement in ("UPDATE served_days SET forecasts = 7", "DELETE FROM served_days"):
        with pytest.raises(DBAPIError, match="rows of served_days are never changed"):
            execute(ledger_url, statement)
    for statement in ("DELETE FROM forecasts", "DELETE FROM forecasts WHERE arm = 'shadow'"):
        with pytest.raises(DBAPIError, match="rows of forecasts are never removed before"):
            execute(ledger_url, statement)
    execute(ledger_url, "DELETE FROM forecasts WHERE arm = 'champion'")
    assert [row.arm for row in ledger.forecasts("XAGUSD", **DAY)] == ["shadow"]


def test_no_row_can_be_replaced(ledger: Ledger, ledger_url: str) -> None:
    """Each database has a way around the triggers on DELETE: SQLite's REPLACE, PostgreSQL's TRUNCATE."""
    record_one_of_each(ledger)
    for table in ("decisions", "alias_changes", "forecasts", "answers"):
        if ledger_url.startswith("sqlite"):
            execute(ledger_url, f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
            execute(ledger_url, f"CREATE TABLE old_{table} AS SELECT * FROM {table}")
            execute(ledger_url, f"UPDATE old_{table} SET at = '1999-01-01 00:00:00.000000'")
            execute(ledger_url, f"INSERT OR REPLACE INTO {table} SELECT * FROM old_{table}")
        else:
            with pytest.raises(DBAPIError, match="are never changed"):
                execute(ledger_url, f"TRUNCATE {table}")
    assert_one_of_each(ledger)


def test_a_copy_is_the_same_ledger_and_a_new_one_another(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "copy", "second")]
    with closing(Ledger(urls[0])) as ledger:
        ledger.record_alias(CHANGE)
        shutil.copy(tmp_path / "first.db", tmp_path / "copy.db")  # all of it: nothing waits in another file
        with closing(Ledger(urls[1], make=False, identity=ledger.identity)) as copy:
            assert copy.alias_changes("XAGUSD", "champion") == [CHANGE]
        Ledger(urls[2]).close()
        with pytest.raises(LedgerError, match=r"second\.db as it was opened, got another one; put it back"):
            Ledger(urls[2], identity=ledger.identity)


def test_an_open_ledger_that_is_removed_is_not_made_again(tmp_path: Path) -> None:
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        (tmp_path / "ledger.db").unlink()
        for use in (ledger.check, lambda: ledger.record_alias(CHANGE), lambda: ledger.decisions("XAGUSD")):
            with pytest.raises(LedgerError, match="unable to open database file"):
                use()
        assert not (tmp_path / "ledger.db").exists()


def test_an_empty_database_becomes_a_ledger_for_those_alone_who_may_begin_one(ledger_url: str, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry/ledger.db").touch()
    with pytest.raises(LedgerError, match=r"Expected a ledger in .*, got a database without one; put it back"):
        Ledger(ledger_url, make=False)
    Ledger(ledger_url).close()
    Ledger(ledger_url, make=False).close()


def test_sqlite_keeps_a_write_ahead_log(tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path}/new/folder/ledger.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/new/folder/ledger.db", poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_an_old_ledger_is_upgraded_with_a_message_and_keeps_its_rows(
    ledger_url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    engine = sa.create_engine(ledger_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        migrate(connection, "0001")
    assert tables(ledger_url) == {"decisions", "ledger_version"}
    execute(
        ledger_url,
        "INSERT INTO decisions VALUES ('XAGUSD', 1, '2015-01-01 12:00:00', 'promote', true, NULL, '[\"why\"]', "
        "'2014-01-01 00:00:00', '2015-01-01 00:00:00', 'ab')",
    )
    with caplog.at_level(logging.INFO, "lstm_ts"):
        ledger = Ledger(ledger_url)
    shown = ledger_url.replace("correct-horse", "***")
    assert caplog.messages[-1] == f"The ledger {shown} was at revision 0001, now at {REVISIONS[-1]}"
    assert [(row.version, row.at.minute, row.reasons) for row in ledger.decisions("XAGUSD")] == [(1, 0, ("why",))]
    ledger.record_alias(CHANGE)
    assert ledger.alias_changes("XAGUSD", "champion") == [CHANGE]
    ledger.close()


def test_an_upgrade_prints_nothing_and_leaves_logging_as_it_was(
    ledger_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lstm_ts"):
        before = list(logging.root.handlers), logging.root.level, logging.root.manager.disable
        Ledger(ledger_url).close()
        assert (list(logging.root.handlers), logging.root.level, logging.root.manager.disable) == before
    assert capfd.readouterr() == ("", "")
    told = [message.split(" is new")[1] for message in caplog.messages if "ledger" in message]
    assert told == [f", now at {REVISIONS[-1]}"]
    assert not logging.getLogger("lstm_ts.ledger.database").disabled


def test_an_upgrade_that_fails_leaves_nothing(ledger_url: str, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    execute(ledger_url, "CREATE TABLE alias_changes (mine INTEGER)")
    with pytest.raises(LedgerError, match="already exists"):
        Ledger(ledger_url)
    assert tables(ledger_url) == {"alias_changes"}


def test_a_process_killed_while_it_upgrades_leaves_nothing_and_the_next_one_upgrades(
    ledger_url: str, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    [victim] = start(DIE_WHILE_UPGRADING, ledger_url, "")
    let_go(victim)
    assert victim.wait(WAIT_S) == -signal.SIGKILL
    with caplog.at_level(logging.INFO, "lstm_ts"):
        ledger = Ledger(ledger_url)
    assert caplog.messages[-1].endswith(f"is new, now at {REVISIONS[-1]}")
    ledger.record_decision(DECISION)
    assert ledger.decisions("XAGUSD") == [DECISION]
    ledger.close()


def test_processes_that_open_a_new_ledger_at_once_all_succeed_and_one_makes_it(ledger_url: str, start: Start) -> None:
    processes = start(OPEN, ledger_url, *"1234")
    for process in processes:
        let_go(process)
    said = [output(process)[0] for process in processes]
    assert all("opened" in text for text in said), said
    assert sum(f"is new, now at {REVISIONS[-1]}" in text for text in said) == 1
    assert tables(ledger_url) == {*ALL_TABLES, "ledger_version"}


def test_processes_that_write_at_once_lose_nothing(ledger: Ledger, ledger_url: str, start: Start) -> None:
    writers = start(WRITE, ledger_url, "one", "other", "third")
    for writer in writers:
        let_go(writer)
    while any(writer.poll() is None for writer in writers):
        ledger.alias_changes("XAGUSD", "champion")
    written = [(change.actor, change.to_version) for change in ledger.alias_changes("XAGUSD", "champion")]
    for actor in ("one", "other", "third"):
        assert [pair for pair in written if pair[0] == actor] == [(actor, i) for i in range(25)]
    assert [row.version for row in ledger.decisions("XAGUSD")] == list(range(25))


def test_a_ledger_that_is_up_to_date_opens_without_alembic(ledger: Ledger, ledger_url: str, start: Start) -> None:
    [process] = start(OPEN, ledger_url, "")
    let_go(process)
    assert output(process)[0] == "opened False\n"


def test_a_ledger_of_a_newer_schema_is_refused(ledger: Ledger, ledger_url: str) -> None:
    execute(ledger_url, "UPDATE ledger_version SET version_num = '9999'")
    with pytest.raises(LedgerError, match=rf"at revision {REVISIONS[-1]} or before, got 9999; use the lstm_ts that"):
        Ledger(ledger_url)


def test_another_programs_alembic_revisions_in_the_same_database_are_let_be(ledger_url: str, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    execute(ledger_url, "CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('1b')")
    Ledger(ledger_url).close()
    assert tables(ledger_url) == {*ALL_TABLES, "ledger_version", "alembic_version"}


def test_a_second_ingestion_of_a_symbol_waits_and_says_so(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def second() -> None:
        with ledger.locked("the ingestion of XAGUSD"):
            done.append("second")

    with caplog.at_level(logging.INFO, "lstm_ts"):
        thread = threading.Thread(target=second, daemon=True)
        with ledger.locked("the ingestion of XAGUSD"):
            thread.start()
            wait_for(lambda: caplog.messages)
            done.append("first")
        join(thread)
    assert caplog.messages[0].startswith("Waiting for the ingestion of XAGUSD in the ledger ")
    assert done == ["first", "second"]


def test_a_second_holder_waits_and_says_for_what(ledger_url: str, start: Start) -> None:
    Ledger(ledger_url).close()
    first, second, other = start(HOLD, ledger_url, "XAGUSD", "XAGUSD", "XAUUSD")
    let_go(first)
    assert read_line(first) == "holding"
    let_go(second)
    shown = ledger_url.replace("correct-horse", "***")
    assert read_line(second) == f"Waiting for the model XAGUSD in the ledger {shown}: another process holds it"
    let_go(other)
    assert read_line(other) == "holding"
    let_go(first)
    assert read_line(first) == "let go"
    assert read_line(second) == "holding"


def test_a_killed_holder_frees_what_it_held(ledger_url: str, start: Start) -> None:
    Ledger(ledger_url).close()
    holder, waiter = start(HOLD, ledger_url, "XAGUSD", "XAGUSD")
    let_go(holder)
    assert read_line(holder) == "holding"
    let_go(waiter)
    assert read_line(waiter).startswith("Waiting for the model XAGUSD")
    holder.kill()
    assert read_line(waiter) == "holding"


def test_an_exception_of_the_holder_passes_as_it_is_and_frees(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(FileNotFoundError), ledger.exclusive("XAGUSD"):
        Path("/nowhere").read_text()
    with caplog.at_level(logging.INFO, "lstm_ts"), ledger.exclusive("XAGUSD"):
        ledger.record_decision(DECISION)
    assert caplog.messages == []


def test_a_connection_that_the_server_ended_is_replaced(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    ledger.decisions("XAGUSD")
    execute(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert ledger.decisions("XAGUSD") == []
    ledger.close()


def test_a_lock_that_was_lost_with_its_connection_is_said(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    with pytest.raises(LedgerError, match="terminating connection"), ledger.exclusive("XAGUSD"):
        execute(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    ledger.close()


def one_sentence(url: str) -> str:
    with pytest.raises(LedgerError) as caught:
        Ledger(url)
    said = str(caught.value)
    assert said.startswith("Expected ") and "; " in said and "\n" not in said
    return said


def test_a_wrong_password_is_said_without_it(postgres_url: str) -> None:
    said = one_sentence(postgres_url.replace("correct-horse", "wrong-horse"))
    assert "password authentication failed" in said
    assert "wrong-horse" not in said
    said = one_sentence(postgres_url.replace(":correct-horse", "") + "?password=wrong-horse")
    assert "password authentication failed" in said
    assert "wrong-horse" not in said


def test_a_server_that_does_not_listen_is_said() -> None:
    with socket.socket() as silent:  # bound, so nobody else listens there either
        silent.bind(("127.0.0.1", 0))
        said = one_sentence(f"postgresql+psycopg://lstm:secret@127.0.0.1:{silent.getsockname()[1]}/ledger")
    assert "onnection refused" in said and "lstm:***@127.0.0.1" in said


def test_a_database_that_the_server_does_not_have_is_said(postgres_url: str) -> None:
    assert 'database "nowhere" does not exist' in one_sentence(postgres_url.removesuffix("postgres") + "nowhere")


def test_a_file_that_is_no_database_is_said_and_let_be(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_text("ts,open,high,low,close,volume\n" * 99)
    before = file.read_bytes()
    assert "file is not a database" in one_sentence(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_a_path_that_cannot_be_a_file_is_said(tmp_path: Path) -> None:
    assert "unable to open database file" in one_sentence(f"sqlite:///{tmp_path}")
    (tmp_path / "file").touch()
    assert "Not a directory" in one_sentence(f"sqlite:///{tmp_path}/file/below/ledger.db")


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("outputs/registry/ledger.db", "got something else"),
        ("user:secret@host", "got something else"),
        ("mysql://user:secret@host/ledger", r"got mysql://user:\*\*\*@host/ledger"),
        ("sqlite://", "got sqlite://;"),
        ("sqlite:///:memory:", "got sqlite:///.*memory"),
        ("postgresql+nothing://user:secret@host/ledger", r"pip install 'lstm_ts\[postgres\]'"),
        ("postgresql+pg8000://user:secret@host/ledger", "No module named 'pg8000'"),
    ],
)
def test_a_url_that_is_none_of_ours_is_refused(url: str, got: str) -> None:
    said = one_sentence(url)
    assert "secret" not in said
    with pytest.raises(LedgerError, match=got):
        Ledger(url)


def test_losses_of_days_are_read_without_their_other_sums(ledger: Ledger) -> None:
    sums = {"n": 3, "losses": {"model": 0.5, "har": 0.25}, "hours": {"3": {"n": 3}}}
    days = [DailyScore("XAGUSD", 2, day, step, sums) for day in ("2015-07-01", "2015-07-02") for step in (1, 6)]
    with ledger.transaction() as connection:
        put_daily_scores(connection, [*days, DailyScore("XAGUSD", 3, "2015-07-01", 1, sums)])
        found = read_daily_losses(connection, "XAGUSD", 2)
    assert found == [replace(day, sums={"n": 3, "losses": {"model": 0.5, "har": 0.25}}) for day in days]
