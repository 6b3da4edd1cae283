from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lstm_ts.cli import compose
from lstm_ts.errors import ConfigError
from lstm_ts.market.session import Session
from lstm_ts.schedule.plan import Plan, last_closed_hour, make_plan, why_closed

HOUR = timedelta(hours=1)


def plan(*overrides: str) -> Plan:
    return make_plan(compose("pipeline", overrides), overrides)


def is_open(session: Session, text: str) -> bool:
    hour = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return why_closed(session, hour, hour + HOUR) is None


def test_the_last_closed_hour_is_the_one_before_the_hour_that_runs() -> None:
    assert last_closed_hour(datetime(2024, 3, 5, 14, 4, 30, tzinfo=UTC)) == datetime(2024, 3, 5, 13, tzinfo=UTC)
    assert last_closed_hour(datetime(2024, 3, 5, 0, 0, tzinfo=UTC)) == datetime(2024, 3, 4, 23, tzinfo=UTC)


# New York closes at 17:00 and opens at 18:00; clocks went forward on Sunday 10 March 2024.
@pytest.mark.parametrize(
    ("hour", "opened"),
    [
        ("2024-03-08T21:00", True),  # Friday 16:00 EST
        ("2024-03-08T22:00", False),
        ("2024-03-03T22:00", False),  # Sunday 17:00 EST
        ("2024-03-03T23:00", True),
        ("2024-03-10T21:00", False),  # Sunday 17:00 EDT
        ("2024-03-10T22:00", True),
        ("2024-03-12T20:00", True),  # Tuesday 16:00 EDT
        ("2024-03-12T21:00", False),
        ("2024-03-12T22:00", True),
        ("2024-03-29T15:00", False),  # Good Friday
    ],
)
def test_hours_are_open_by_the_session_through_the_change_of_clocks(hour: str, opened: bool, silver: Session) -> None:
    assert is_open(silver, hour) is opened


def test_a_closed_span_is_named_with_the_next_opening(silver: Session) -> None:
    saturday = datetime(2024, 3, 9, tzinfo=UTC)
    assert why_closed(silver, saturday, saturday + timedelta(days=1)) == (
        "CMEGlobex_Silver has no session from Sat 2024-03-09 00:00 to Sun 2024-03-10 00:00 UTC; "
        "the next one opens in the hour of Sun 22:00 UTC"
    )


def test_a_step_is_told_what_every_command_takes_then_its_own_then_its_symbol(tmp_path: Path) -> None:
    mine = plan(
        "symbols=[XAGUSD,XAUUSD]",
        f"paths.data={tmp_path}",
        "symbol.session.zone=Europe/London",
        "port=4000",
        "ingest='source=files source.paths=\"a b.csv\"'",
        "++min_minutes_share=0.5",
    )
    shared = [f"paths.data={tmp_path}", "symbol.session.zone=Europe/London", "++min_minutes_share=0.5"]
    assert mine.command("process", "XAUUSD") == [*shared, "symbol=XAUUSD"]
    assert mine.command("ingest", "XAGUSD", "span.end=2024-03-09") == [
        *shared, "source=files", "source.paths=a b.csv", "symbol=XAGUSD", "span.end=2024-03-09",
    ]  # fmt: skip
    assert [symbol.session.zone for symbol in mine.symbols] == ["Europe/London"] * 2


def test_each_symbol_has_a_source_of_its_own() -> None:
    mine = plan("symbols=[XAGUSD,XAUUSD]", "ingest='source=files source.paths=minutes/${symbol.name}/*.csv'")
    paths = [compose("ingest", mine.command("ingest", symbol.name)).source.paths for symbol in mine.symbols]
    assert paths == ["minutes/XAGUSD/*.csv", "minutes/XAUUSD/*.csv"]


def test_a_symbol_of_the_command_line_is_the_only_one() -> None:
    mine = plan("symbol=XAUUSD")
    assert [symbol.name for symbol in mine.symbols] == ["XAUUSD"]
    assert mine.command("process", "XAUUSD") == ["symbol=XAUUSD"]


def test_each_symbol_has_its_own_sessions() -> None:
    mine = plan("symbols=[XAGUSD,SPY,BTCUSD]")
    assert {symbol.name: symbol.session.calendar for symbol in mine.symbols} == {
        "XAGUSD": "CMEGlobex_Silver", "SPY": "NYSE", "BTCUSD": "24/7",
    }  # fmt: skip
    friday, saturday = "2024-03-08T13:00", "2024-03-09T13:00"
    opened = [[is_open(symbol.session, hour) for symbol in mine.symbols] for hour in (friday, saturday)]
    assert opened == [[True, False, True], [False, False, True]]  # 08:00 in New York


@pytest.mark.slow
def test_a_symbol_of_ones_own_folder_is_planned_like_any_other(own_conf: Path) -> None:
    mine = plan(f"hydra.searchpath=['file://{own_conf}']", "symbols=[XAGUSD,7203]")
    mine.check()
    assert [symbol.session.calendar for symbol in mine.symbols] == ["CMEGlobex_Silver", "JPX"]
    assert compose("process", mine.command("process", "7203")).symbol.currency == "JPY"


def test_a_symbol_without_a_file_is_told() -> None:
    with pytest.raises(ConfigError, match="or make FOO one: copy conf/symbol"):
        plan("symbols=[XAGUSD,FOO]")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("symbols=[]", r"Expected symbols as a list .*, got \[\]"),
        ("symbols=XAGUSD", "Expected a list for symbols, got symbols=XAGUSD"),
        ("symbols=[XAG.USD,XAG_USD]", "differ in their letters and digits"),
        ("symbols=[XAGUSD,../x]", r"Expected a symbol of 1 to 32 characters .*, got '\.\./x'"),
        ("symbols=[XAGUSD,XAGUSD]", "each once"),
        ("symbols=[EUR/USD]", "EUR/USD"),
        ("days_per_run=0", "days_per_run=0"),
        ("retries.most=-1", "Expected retries.most and retries.first_delay_s of at least 0"),
        ("retries.most=99999999999", "Expected at most 1000 retries"),
        ("look_back_days=0", "look_back_days=0"),
        ("first_day=someday", "an ISO date"),
        ("first_day=null", "first_day=2019-01-01"),
        ("first_day=2999-01-01", "Expected first_day before today, got 2999-01-01"),
        ('ingest="source.paths=\'a"', "ingest as one would type it"),
    ],
)
def test_a_mistake_is_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(override)


@pytest.mark.parametrize("step", ["ingest", "process", "monitor", "retrain"])
def test_a_step_that_would_refuse_its_command_line_is_found_before_its_time(step: str) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        plan(f"{step}='nonsense=1'").check()


def test_a_source_that_lacks_a_value_is_found_before_its_time() -> None:
    plan("ingest='source=files source.paths=bars.csv'").check()
    with pytest.raises(ConfigError, match=r"source\.paths"):
        plan("ingest='source=files'").check()
