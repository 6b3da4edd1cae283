"""The forecast's chart: what lies where, and what is told of it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from bokeh.models import VBar
from replies import reply_with

from dashboard.forecast.fan_chart import FanChart, path_columns
from dashboard.monitoring.past_forecasts import PastPath
from lstm_ts.http_schema import ForecastReply, Step
from lstm_ts.market.session import HOUR, Session

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def forecast_after(bars: pl.DataFrame, session: Session, *, levels: tuple[float, ...] = LEVELS) -> ForecastReply:
    origin: datetime = bars["ts"][-1] + HOUR
    targets = session.next_hours(bars["ts"][-1], 3)
    path = [
        Step(target_ts=ts + HOUR, price=20.0, lower_80=19.0, upper_80=21.0, persistence=20.1,
             quantiles={level: 18.0 + 4 * level for level in levels})
        for ts in targets
    ]  # fmt: skip
    return reply_with(path, origin_ts=origin, last_close=20.1)


@pytest.fixture
def chart(silver: Session) -> FanChart:
    return FanChart(silver, ZoneInfo("Europe/Berlin"), dark=False, choose=lambda _: None)


def drawn(chart: FanChart, column: str) -> np.ndarray:
    """Of the source that holds the hours."""
    found = [each.data_source.data for each in chart.plot.renderers if "volume" in each.data_source.data]
    return np.asarray(found[0][column])


def test_a_weekend_has_no_room(chart: FanChart, hourly_bars: pl.DataFrame, silver: Session) -> None:
    friday = datetime(2014, 5, 16, 20, tzinfo=UTC)  # the last hour of the week
    bars = hourly_bars.filter(pl.col("ts") <= friday).tail(48)
    assert bars["ts"][-1] == friday
    forecast = forecast_after(bars, silver)
    assert forecast.path[0].target_ts - forecast.origin_ts > 40 * HOUR
    chart.show(bars, forecast, bars.clear())
    assert drawn(chart, "x")[-1] == 0
    seen = [each.glyph for each in chart.plot.renderers if getattr(each.glyph, "fill_alpha", 0) != 0]
    assert not [glyph for glyph in seen if isinstance(glyph, VBar)]  # which Bokeh draws at the edge, if out of sight
    assert path_columns(forecast)["x"].tolist() == [0, 1, 2, 3]
    labels = chart.plot.xaxis[0].formatter.args
    last = forecast.path[-1].target_ts.astimezone(ZoneInfo("Europe/Berlin"))
    assert labels["labels"][-1].startswith(f"{last:%H:%M}")  # right of the origin, too
    assert labels["places"][-1] == 3


def test_every_interval_that_the_service_names_is_told(
    chart: FanChart, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    bars = hourly_bars.tail(48)
    hover = [tool for tool in chart.plot.tools if type(tool).__name__ == "HoverTool"]
    chart.show(bars, forecast_after(bars, silver), bars.clear())
    of_hours, of_steps = (dict(tool.tooltips) for tool in hover)
    assert {"Closes", "Open", "High", "Low", "Close", "Volume", "Spread"} == set(of_hours)
    assert chart.plot.xaxis[0].axis_label == "Europe/Berlin"
    assert {"Closes", "Median", "50 %", "80 %", "90 %", "Persistence"} == set(of_steps)
    chart.show(bars, forecast_after(bars, silver, levels=(0.1, 0.5, 0.9)), bars.clear())
    assert {"Closes", "Median", "80 %", "Persistence"} == set(dict(hover[1].tooltips))


def test_what_was_forecast_lies_over_the_hours_that_it_was_of(
    chart: FanChart, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    bars = hourly_bars.tail(48)
    chart.show(bars, forecast_after(bars, silver), bars.clear())
    target = bars["ts"][-2] + HOUR
    targets = np.array([1000 * target.timestamp(), 1000 * (target + 99 * HOUR).timestamp()])  # one is not drawn
    band = {"80": np.array([[19.0, 21.0], [1.0, 2.0]])}
    chart.show_past(PastPath(targets, targets, np.array([20.0, 1.5]), band, np.array([np.nan, np.nan])), 3)
    low = drawn(chart, "past_low")
    assert low[-2] == 19.0
    assert np.isnan(np.delete(low, -2)).all()
    hover = next(tool for tool in chart.plot.tools if type(tool).__name__ == "HoverTool")
    assert "80 % forecast 3 h before" in dict(hover.tooltips)
    assert drawn(chart, "past_told")[-3:-1].tolist() == ["none", "19.000 to 21.000, median 20.000"]
    chart.show_past(None, 3)
    assert np.isnan(drawn(chart, "past_low")).all()
    assert "80 % forecast 3 h before" not in dict(hover.tooltips)


def test_the_view_stays_when_an_hour_is_added_and_is_bounded_by_what_there_is(
    chart: FanChart, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    bars = hourly_bars.tail(48)
    chart.show(bars, forecast_after(bars, silver), bars.clear())
    chart.plot.x_range.update(start=-30.0, end=2.0)
    bars = hourly_bars.tail(49)
    chart.show(bars, forecast_after(bars, silver), bars.clear())
    assert (chart.plot.x_range.start, chart.plot.x_range.end) == (-30.0, 2.0)
    first, last = chart.plot.x_range.bounds
    assert last == pytest.approx(3.8)
    assert first <= -47.5
