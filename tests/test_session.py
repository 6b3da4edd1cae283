from datetime import UTC, datetime, time, timedelta

import polars as pl
import pytest

from lstm_ts.errors import ConfigError, WrongZone
from lstm_ts.market.close_stamps import stamped_at_close
from lstm_ts.market.session import HOUR, Session, utc
from lstm_ts.market.zone_check import check_minutes, check_zone, find_shift_hours

SILVER = Session(calendar="CMEGlobex_Silver", zone="America/New_York")


def at(month: int, day: int, hour: int, *, year: int = 2015) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def test_the_daily_break_is_no_session_hour() -> None:
    assert SILVER.hours(at(3, 3, 20), at(3, 4, 1))["ts"].to_list() == [
        at(3, 3, 20),
        at(3, 3, 21),
        at(3, 3, 23),
        at(3, 4, 0),
    ]


def test_the_week_opens_on_sunday_18_00_new_york_through_the_start_of_dst() -> None:
    # 2015-03-08 02:00 New York: EST -> EDT, so the Sunday open moves from 23:00 to 22:00 UTC.
    assert SILVER.next_hours(at(2, 27, 21), 1) == [at(3, 1, 23)]
    assert SILVER.next_hours(at(3, 6, 21), 1) == [at(3, 8, 22)]


def test_the_week_of_the_end_of_dst_has_115_hours() -> None:
    # 2015-11-01: EDT -> EST; Sunday 18:00 is 23:00 UTC. Five days of 23 hours.
    assert SILVER.hours(at(11, 1, 0), at(11, 7, 0)).height == 115
    assert SILVER.next_hours(at(10, 30, 20), 1) == [at(11, 1, 23)]


def test_a_holiday_is_stepped_over() -> None:
    # Christmas 2015 was a Friday: after Thursday's 17:00 New York close comes Sunday 18:00.
    assert SILVER.next_hours(at(12, 24, 21), 2) == [at(12, 27, 23), at(12, 28, 0)]


def test_an_early_close_leaves_a_short_hour() -> None:
    hours = SILVER.hours(at(11, 28, 17, year=2014), at(11, 28, 20, year=2014))
    assert hours.select("ts", "session_minutes").rows() == [
        (at(11, 28, 17, year=2014), 60),
        (at(11, 28, 18, year=2014), 45),
    ]


def test_the_hour_of_week_follows_new_york() -> None:
    monday_noon_utc = pl.DataFrame({"ts": [at(3, 2, 12), at(3, 9, 12)]})
    assert monday_noon_utc.select(SILVER.hour_of_week(pl.col("ts"))).to_series().to_list() == [7, 8]


def hours_read_as(shift_hours: int) -> pl.DataFrame:
    true = SILVER.hours(at(6, 1, 0), at(6, 30, 0))
    return true.select(pl.col("ts") + pl.duration(hours=shift_hours), bars=pl.lit(60))


def test_stamps_in_the_right_zone_pass_the_session_check() -> None:
    assert check_zone(SILVER, hours_read_as(0), max_mismatch=0.0).total == 0


@pytest.mark.parametrize("shift", [-5, -1, 1, 7])
def test_stamps_in_a_wrong_zone_are_caught_and_the_shift_is_named(shift: int) -> None:
    direction = "earlier" if shift > 0 else "later"
    with pytest.raises(WrongZone, match=rf"stamps {abs(shift)} hours {direction} would leave 0\.00 %.* source\.zone"):
        check_zone(SILVER, hours_read_as(shift), max_mismatch=0.02)


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("calendar", ["NYSE", "ASX", "NSE", "XETR", "CMEGlobex_Silver"])
def test_minutes_half_an_hour_off_are_caught_and_those_beside_a_session_are_not(calendar: str, every: int) -> None:
    session = Session(calendar=calendar, zone="America/New_York")
    minutes = stamped(session, every)
    for shift in (-30, 30):
        way = "later" if shift < 0 else "earlier"
        with pytest.raises(WrongZone, match=rf"stamps 30 minutes {way} would leave 0\.00 %; set source\.zone"):
            check_minutes(session, [(every, minutes.dt.offset_by(f"{shift}m"))], max_mismatch=0.02)
    before_opening = pl.concat([minutes, minutes.dt.offset_by("-1h")])
    for own in (minutes, before_opening, minutes.dt.offset_by("1m")):
        check_minutes(session, [(every, own), (15, own.dt.offset_by("30m"))], max_mismatch=0.02)


def test_minutes_half_an_hour_off_are_caught_in_days_that_end_early() -> None:
    nyse = Session(calendar="NYSE", zone="America/New_York")
    minutes = stamped(nyse, 1)
    early = minutes.filter(minutes.dt.time() < time(19, 44)).dt.offset_by("-30m")  # two shifts leave none outside
    with pytest.raises(WrongZone, match="minutes later would leave 0"):
        check_minutes(nyse, [(1, early)], max_mismatch=0.02)


def test_holes_alone_are_not_taken_for_a_wrong_zone() -> None:
    holed = hours_read_as(0).sample(fraction=0.7, seed=1)
    assert check_zone(SILVER, holed, max_mismatch=0.02).bare_hours > 0.25


def stamped(session: Session, minutes: int, shift: int = 0, days: int = 8) -> pl.Series:
    """Bars of sessions from Monday 2015-06-01 on, each stamped `shift` minutes after its open."""
    spans = session.spans(at(6, 1, 0), at(6, 1, 0) + timedelta(days=days))
    opens = pl.datetime_ranges(
        pl.col("opens").dt.truncate(f"{minutes}m"), "closes", interval=f"{minutes}m", closed="left"
    )
    return spans.select(ts=opens).explode("ts")["ts"].unique() + timedelta(minutes=shift)


@pytest.mark.parametrize("calendar", ["CMEGlobex_Silver", "NYSE", "JPX", "HKEX"])
@pytest.mark.parametrize("minutes", [5, 15, 30, 60])
def test_stamps_at_the_close_are_known_by_the_edges_of_the_sessions(calendar: str, minutes: int) -> None:
    session = Session(calendar=calendar, zone="America/New_York")
    for thin in (1.0, 0.9):
        at_open, at_close = (stamped(session, minutes, shift).sample(fraction=thin, seed=3) for shift in (0, minutes))
        assert not stamped_at_close(at_open, session, minutes=minutes)
        assert stamped_at_close(at_close, session, minutes=minutes)


def test_too_few_sessions_say_nothing_of_stamps_at_the_close() -> None:
    assert not stamped_at_close(stamped(SILVER, 30, 30, days=2), SILVER, minutes=30)
    always = Session(calendar="24/7", zone="UTC")
    assert not stamped_at_close(stamped(always, 60, 60), always, minutes=60)
    assert not stamped_at_close(pl.Series("ts", [], pl.Datetime("us", "UTC")), SILVER, minutes=1)


def test_stamps_at_the_close_of_spot_fx_are_known_by_its_weeks() -> None:
    fx = Session(calendar="SpotFX", zone="America/New_York")
    for days, minutes in ((28, 60), (7, 1)):
        assert stamped_at_close(stamped(fx, minutes, minutes, days=days), fx, minutes=minutes)
        assert not stamped_at_close(stamped(fx, minutes, 0, days=days), fx, minutes=minutes)


FX = Session(calendar="SpotFX", zone="America/New_York")


def counted(session: Session, first: datetime, days: int, shift: int = 0) -> pl.DataFrame:
    hours = session.hours(first, first + timedelta(days=days))
    return hours.select(pl.col("ts") + pl.duration(hours=shift), bars=pl.col("session_minutes"))


@pytest.mark.parametrize("days", [7, 28, 365])
@pytest.mark.parametrize("shift", [-7, -1, 1, 2])
def test_spot_fx_in_a_wrong_zone_is_caught_by_the_edges_of_its_weeks(days: int, shift: int) -> None:
    sunday = at(6, 7, 0)
    assert check_zone(FX, counted(FX, sunday, days), max_mismatch=0.02).total == 0
    with pytest.raises(WrongZone, match=r"set source\.zone"):
        check_zone(FX, counted(FX, sunday, days, shift), max_mismatch=0.02)


def test_a_part_in_another_zone_is_caught_however_much_is_right() -> None:
    early = pl.col("ts").is_between(at(3, 7, 0), at(3, 28, 0))  # the summer time of New York, and not yet of Athens
    for year, part in ((counted(FX, at(1, 4, 0), 360), early), (counted(FX, at(1, 4, 0), 90), early)):
        wrong = year.with_columns(pl.when(part).then(pl.col("ts") + timedelta(hours=1)).otherwise("ts"))
        with pytest.raises(WrongZone, match=r"end and begin 1 hours late in weeks about 2015-03-08; set source\.zone"):
            check_zone(FX, wrong, max_mismatch=0.02)
        assert check_zone(FX, wrong, max_mismatch=1).closed_bars < 0.02
    files = pl.concat([counted(FX, at(1, 4, 0), 355, shift).with_columns(part=pl.lit(str(shift))) for shift in (0, 4)])
    own = files.filter((pl.col("part") == "0") == (pl.col("ts") < at(12, 6, 0)))
    with pytest.raises(WrongZone, match=r"end and begin 4 hours late at 100 % of its long closures.* \(of 4\)"):
        check_zone(FX, own.filter(pl.col("ts") < at(12, 12, 12)), max_mismatch=0.02)


@pytest.mark.parametrize("days", [7, 28])
@pytest.mark.parametrize(
    ("minutes", "words"),
    [(-90, "1 hours later"), (-30, "0.5 hours early"), (30, "0.5 hours late"), (150, "2 hours earlier")],
)
def test_a_zone_that_is_half_an_hour_off_is_caught_too(days: int, minutes: int, words: str) -> None:
    stamps = stamped(FX, 1, minutes, days=days).to_frame()
    counts = stamps.group_by(pl.col("ts").dt.truncate("1h")).len("bars")
    with pytest.raises(WrongZone, match=words):
        check_zone(FX, counts, max_mismatch=0.02)


@pytest.mark.parametrize("minutes", [5, 10, 15, 20, 30, 60])
def test_stamps_at_the_close_are_no_other_zone_by_half_hours(minutes: int) -> None:
    stamps = stamped(FX, minutes, minutes if minutes < 60 else 0, days=28).to_frame()
    check_zone(FX, stamps.group_by(pl.col("ts").dt.truncate("1h")).len("bars"), max_mismatch=0.02)


def test_a_bar_at_the_very_close_of_the_week_and_a_late_start_are_no_other_zone() -> None:
    stamps = stamped(FX, 1, days=28)
    closes = FX.spans(stamps[0], stamps[-1] + HOUR)["closes"].head(-1)
    late = stamps.filter(~((stamps.dt.weekday() == 7) & (stamps.dt.hour() == 21) & (stamps.dt.minute() < 30)))
    counts = pl.concat([late, closes]).to_frame("ts").group_by(pl.col("ts").dt.truncate("1h")).len("bars")
    check_zone(FX, counts, max_mismatch=0.02)


def test_bars_of_the_first_hour_of_a_week_alone_pass() -> None:
    check_zone(FX, counted(FX, FX.hours(at(6, 4, 0), at(6, 8, 0))["ts"][-2], 1).head(1), max_mismatch=0.02)


def test_true_bars_of_spot_fx_pass_with_thin_hours_holidays_and_half_days() -> None:
    year = counted(FX, at(1, 4, 0), 360)
    thin = year.sample(fraction=0.985, seed=2)
    late = year.filter(~((pl.col("ts").dt.weekday() == 7) & (pl.col("ts").dt.hour() < 23)))  # opens an hour late
    holiday = year.filter(~pl.col("ts").dt.date().is_in([at(7, 3, 0).date(), at(11, 27, 0).date()]))
    for bars in (thin, late, holiday):
        check_zone(FX, bars, max_mismatch=0.02)


def test_a_zone_that_closed_hours_cannot_show_is_said_to_be_unchecked() -> None:
    always = Session(calendar="24/7", zone="UTC")
    said = str(check_zone(always, counted(always, at(6, 1, 0), 7), max_mismatch=0.02))
    assert "so the zone of stamps without one cannot be checked; 0.00 % of the open hours bare" in said
    assert "cannot be checked" not in str(check_zone(FX, counted(FX, at(6, 7, 0), 7), max_mismatch=0.02))


@pytest.mark.parametrize("calendar", ["JPX", "HKEX", "SSE"])
@pytest.mark.parametrize("shift", [-1, 1])
def test_bars_of_a_market_with_a_lunch_break_in_a_wrong_zone_are_caught(calendar: str, shift: int) -> None:
    session = Session(calendar=calendar, zone="Asia/Tokyo")
    assert check_zone(session, counted(session, at(6, 1, 0), 60), max_mismatch=0.02).total == 0
    with pytest.raises(WrongZone):
        check_zone(session, counted(session, at(6, 1, 0), 60, shift), max_mismatch=0.02)


def test_a_zone_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Expected an IANA time zone .*, got symbol\.session\.zone=\['UTC'\]"):
        Session(calendar="NYSE", zone=["UTC"])  # type: ignore[arg-type]


def test_an_unknown_calendar_is_named() -> None:
    with pytest.raises(ConfigError, match=r"session\.calendar=CMX"):
        Session(calendar="CMX", zone="America/New_York").hours(at(1, 5, 0), at(1, 6, 0))


def test_moments_from_a_configuration_are_utc() -> None:
    assert utc("2015-01-01") == at(1, 1, 0)
    assert utc("2015-01-01T02:00:00+02:00") == at(1, 1, 0)
    assert utc(None) is None
    with pytest.raises(ConfigError, match="got last Tuesday"):
        utc("last Tuesday")


def test_next_hours_reach_over_a_long_horizon() -> None:
    hours = SILVER.next_hours(at(3, 2, 12), 500)
    assert len(hours) == 500
    assert hours[0] == at(3, 2, 13)
    assert hours[-1] - hours[0] > timedelta(days=28)


def test_last_hours_reach_back_over_closures() -> None:
    assert SILVER.last_hours(at(3, 8, 23), 2) == [at(3, 6, 21), at(3, 8, 22)]
    assert SILVER.last_hours(at(3, 8, 22), 1) == [at(3, 6, 21)]
    hours = SILVER.last_hours(at(3, 30, 12), 500)
    assert hours == SILVER.hours(hours[0], at(3, 30, 12))["ts"].to_list() and len(hours) == 500


HOLIDAYS = {
    "ICEBrent": ["2022-11-24", "2023-07-04", "2023-11-23", "2024-11-28", "2024-12-25"],
    "SpotFX": ["2024-12-24", "2024-12-25", "2024-12-31", "2025-01-01"],
    "CMEGlobex_Silver": ["2015-07-03", "2020-07-03", "2023-12-25", "2024-01-01", "2024-03-29"],
}


@pytest.mark.parametrize(("calendar", "day"), [(name, day) for name, days in HOLIDAYS.items() for day in days])
def test_bars_at_the_usual_hours_of_a_holiday_are_no_wrong_zone(calendar: str, day: str) -> None:
    session, fortnight = Session(calendar=calendar, zone="America/New_York"), timedelta(days=14)
    usual = utc(day) - fortnight
    hours = session.hours(usual, usual + timedelta(days=1)).select(pl.col("ts") + fortnight, bars=60)
    assert hours.height > 12
    assert find_shift_hours(session, hours, max_mismatch=0.02) == 0


@pytest.mark.parametrize(
    ("calendar", "bars"),
    [("SpotFX", {21: 3, 22: 60, 23: 60}), ("SpotFX", {21: 3}), ("CMEGlobex_Silver", {22: 2, 23: 60})],
)
def test_some_minutes_before_the_open_are_no_wrong_zone(calendar: str, bars: dict[int, int]) -> None:
    session = Session(calendar=calendar, zone="America/New_York")
    counts = pl.DataFrame({"ts": [at(1, 7, hour, year=2024) for hour in bars], "bars": list(bars.values())})
    assert find_shift_hours(session, counts, max_mismatch=0.02) == 0


def test_sessions_of_a_span_are_cut_at_its_ends(silver: Session) -> None:
    friday, sunday = datetime(2015, 3, 6, 20, tzinfo=UTC), datetime(2015, 3, 8, 23, tzinfo=UTC)
    # New York moves to summer time within that weekend, so the close is at 22:00 UTC and the opening too.
    assert silver.spans(friday, sunday).rows() == [
        (friday, friday + timedelta(hours=2)),
        (sunday - timedelta(hours=1), sunday),
    ]
    assert silver.spans(friday + timedelta(hours=2), sunday - timedelta(hours=1)).is_empty()


@pytest.mark.parametrize("hours", [-9, -5, -1, 2])
def test_a_day_of_stamps_in_a_wrong_zone_is_told_by_its_bars_in_closed_hours(silver: Session, hours: int) -> None:
    day = silver.hours(datetime(2015, 3, 3, 23, tzinfo=UTC), datetime(2015, 3, 4, 22, tzinfo=UTC)).select("ts", bars=60)
    assert find_shift_hours(silver, day, max_mismatch=0.02) == 0
    assert find_shift_hours(silver, day.filter(pl.col("ts").dt.hour() != 17), max_mismatch=0.02) == 0
    off = day.with_columns(pl.col("ts") + pl.duration(hours=hours))
    assert find_shift_hours(silver, off, max_mismatch=0.02) == -hours


def test_a_lunch_break_is_no_session() -> None:
    tokyo = Session(calendar="JPX", zone="Asia/Tokyo")
    day = datetime(2025, 1, 8, tzinfo=UTC)
    hours = tokyo.hours(day, day + timedelta(days=1)).select(pl.col("ts").dt.hour(), "session_minutes").rows()
    assert hours == [(0, 60), (1, 60), (2, 30), (3, 30), (4, 60), (5, 60), (6, 30)]
    hong_kong = Session(calendar="HKEX", zone="Asia/Hong_Kong").hours(day, day + timedelta(days=1))
    assert hong_kong["ts"].dt.hour().to_list() == [1, 2, 3, 5, 6, 7]


def test_spot_fx_trades_from_sunday_to_friday_at_17_in_new_york_but_not_at_christmas() -> None:
    fx = Session(calendar="SpotFX", zone="America/New_York")
    start = datetime(2025, 1, 10, 20, tzinfo=UTC)
    assert fx.hours(start, start + timedelta(days=3))["ts"].dt.strftime("%a %H").to_list()[:4] == [
        "Fri 20", "Fri 21", "Sun 22", "Sun 23",
    ]  # fmt: skip
    summer = datetime(2025, 7, 7, tzinfo=UTC)
    assert (
        fx.hours(summer, summer + timedelta(days=7)).height == 24 * 5 - 3 + 3
    )  # until Friday 21:00, from Sunday 21:00
    christmas = datetime(2024, 12, 24, 21, tzinfo=UTC)
    assert fx.next_hours(christmas, 1) == [datetime(2024, 12, 25, 22, tzinfo=UTC)]


@pytest.mark.parametrize(("bars", "offered"), [(1, True), (4, False), (60, False)])
def test_stamps_at_the_close_explain_an_hour_only_for_hours(bars: int, offered: bool) -> None:
    hours = SILVER.hours(at(3, 9, 0), at(3, 21, 0)).select(pl.col("ts") + HOUR, bars=pl.lit(bars))
    with pytest.raises(WrongZone, match=r"; set source\.zone") as error:
        check_zone(SILVER, hours, max_mismatch=0.02)
    assert ("source.stamps=close" in str(error.value)) == offered
