"""The calendars of pandas_market_calendars, and those of our own beside them."""

from datetime import time
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pandas_market_calendars as pmc
from pandas_market_calendars.calendars.ice import ICEExchangeCalendar

MONDAY = 0


class SpotFX(pmc.MarketCalendar):  # type: ignore[misc]
    """Sunday 17:00 to Friday 17:00 New York without a daily break; brokers pause for Christmas and New Year's Day.

    A session is a day from 17:00 on the day before; those of 25 December and 1 January do not trade.
    """

    aliases = ("SpotFX",)
    regular_market_times: ClassVar = {"market_open": ((None, time(17), -1),), "market_close": ((None, time(17)),)}

    @property
    def name(self) -> str:
        return "SpotFX"

    @property
    def tz(self) -> ZoneInfo:
        return ZoneInfo("America/New_York")

    @property
    def adhoc_holidays(self) -> list[str]:
        return [f"{year}-{day}" for year in range(1900, 2101) for day in ("01-01", "12-25")]


class ICEBrent(ICEExchangeCalendar):  # type: ignore[misc]
    """ICE's calendar, 20:01 to 18:00 New York, with the earlier opening of Mondays: Sunday 18:00."""

    aliases = ("ICEBrent",)

    @property
    def name(self) -> str:
        return "ICEBrent"

    @property
    def special_opens(self) -> list[Any]:
        return [((time(18), -1), MONDAY)]


def get_calendar(name: str) -> Any:
    """Raises    RuntimeError: neither has it"""
    return pmc.get_calendar(name)
