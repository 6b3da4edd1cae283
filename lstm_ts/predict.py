"""`python -m lstm_ts.predict model=…`: the next hours, in words or as JSON."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lstm_ts import clock
from lstm_ts.cli import check_arguments

if __name__ == "__main__":
    check_arguments("predict")  # before what is slow to import

import polars as pl
from omegaconf import DictConfig

from lstm_ts.cli import entry_point
from lstm_ts.configuration.overrides import SYMBOL
from lstm_ts.configuration.parts import construct, model_folder, processed_store, read_symbol, typed_overrides
from lstm_ts.errors import ConfigError, NoRows
from lstm_ts.market.prices import price_format
from lstm_ts.market.session import HOUR
from lstm_ts.model.adoption import check_adoptable, choose_forecaster, describe_adoption
from lstm_ts.model.artifact import load_forecasters
from lstm_ts.model.flags import Flags, of_training
from lstm_ts.model.forecaster import Forecast, Forecaster
from lstm_ts.model.season import NO_STATES, SeasonStates
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.request_body import write_request
from lstm_ts.scoring.tables import align
from lstm_ts.sources.files.hourly_files import own_keys, read_hourly_bars
from lstm_ts.sources.files.source import Files

log = logging.getLogger(__name__)
INTERVAL = (0.1, 0.9)
FORMATS = ("table", "json", "request")


def format_forecast(forecast: Forecast, source: str, flags: Sequence[str], now: datetime) -> str:
    """Format the path beside persistence, flags of its window, ages of profile and bars, and the last hour in words.

    Raises    ConfigError: a model without the levels of INTERVAL
    """
    if not set(INTERVAL) <= set(forecast.levels):
        raise ConfigError(
            f"Expected a model of the levels 0.1 and 0.9 for format=table, got one of {list(forecast.levels)}; add "
            f"format=json, which shows these"
        )
    prices = price_format(forecast.quote, forecast.last_close)
    close = prices.number(forecast.last_close)
    rows = [("step", "target (UTC)", "median", "80 % interval", "persistence")]
    for step, (target_ts, path_L) in enumerate(
        zip(forecast.target_ts_H, forecast.price_HL(0.5, *INTERVAL), strict=True), start=1
    ):
        median, low, high = map(prices.number, path_L)
        rows.append((f"{step:>4}", f"{target_ts:%Y-%m-%d %H:%M}", median, f"{low} to {high}", close))
    head = (
        f"{forecast.symbol}, last close {close}{prices.suffix} at {forecast.origin_ts:%Y-%m-%d %H:%M} UTC; "
        f"bars: {source}"
    )
    ahead = forecast.origin_ts - HOUR > now + clock.SKEW
    age = (
        f"in the future (now: {now:%Y-%m-%d %H:%M}): {clock.fix_hint()}"
        if ahead
        else f"{format_age(forecast.origin_ts, now)} ago"
    )
    ends = f"From bars that end {forecast.origin_ts:%Y-%m-%d %H:%M} UTC, {age}."
    warned = [f"Warning: {flag}." for flag in flags]
    learnt = f"that of bars until {forecast.season_day:%Y-%m-%d}" if forecast.season_day else "that of the training"
    profile = f"Usual size of an hour's move: {learnt}."
    return "\n".join([head, *align(rows), *warned, profile, ends, describe(forecast)])


def format_age(then: datetime, now: datetime) -> str:
    """Format an age in at most two units, such as "10 years 10 months" or "3 hours 5 minutes"."""
    months = 12 * (now.year - then.year) + now.month - then.month - ((now.day, now.time()) < (then.day, then.time()))
    minutes = max(int((now - then).total_seconds()) // 60, 0)
    days, rest = divmod(minutes, 24 * 60)
    counts = {"year": months // 12, "month": months % 12} if months > 0 else {}
    counts = (
        counts or {"day": days, "hour": rest // 60} if days else counts or {"hour": rest // 60, "minute": rest % 60}
    )
    words = [f"{count} {unit}{'s' * (count != 1)}" for unit, count in counts.items() if count]
    return " ".join(words) or "less than a minute"


def describe(forecast: Forecast) -> str:
    """Describe the last hour of the path in a sentence."""
    prices = price_format(forecast.quote, forecast.last_close)
    median, low, high = map(prices.number, forecast.price_HL(0.5, *INTERVAL)[-1])
    hours, target_ts = len(forecast.target_ts_H), forecast.target_ts_H[-1]
    when = f"{target_ts:%A} {target_ts.day} {target_ts:%B %Y} {target_ts:%H:%M}"
    return (
        f"In {hours} session hour{'s' * (hours > 1)}, by {when} UTC, {forecast.symbol} is at "
        f"{median}{prices.suffix}, with 80 % probability between {low} and {high}; persistence says "
        f"{prices.number(forecast.last_close)}."
    )


def to_json(forecast: Forecast, source: str, flags: Sequence[str]) -> dict[str, Any]:
    """Convert to JSON types: prices in the symbol's quote currency, null if that is not known; stamps ISO 8601."""
    prices_HQ = forecast.price_HL(*forecast.levels).tolist()
    steps = zip(forecast.target_ts_H, prices_HQ, strict=True)
    path = [
        {
            "step": step,
            "target_ts": target_ts.isoformat(),
            "quantiles": dict(zip(forecast.levels, prices_Q, strict=True)),
        }
        for step, (target_ts, prices_Q) in enumerate(steps, start=1)
    ]
    median = forecast.levels.index(0.5)
    prices = [{"price": prices_Q[median], "persistence": forecast.last_close} for prices_Q in prices_HQ]
    return {
        "symbol": forecast.symbol,
        "currency": forecast.quote and forecast.quote.currency,
        "bars": source,
        "origin_ts": forecast.origin_ts.isoformat(),
        "last_close": forecast.last_close,
        "missing_hours": forecast.missing_hours,
        "season_day": forecast.season_day and forecast.season_day.isoformat(),
        "flags": list(flags),
        "path": [step | price for step, price in zip(path, prices, strict=True)],
    }


def to_request(forecaster: Forecaster, hourly_bars: pl.DataFrame) -> str:
    """Return the body of the service's `POST /predict` for the same forecast: the bars of its window.

    It begins with a bar: the last one before the window if the window's first hour is missing.
    """
    first = forecaster.window_ts(hourly_bars)
    before = hourly_bars.filter(pl.col("ts") <= first)["ts"].max()
    return write_request(forecaster.provenance.symbol, hourly_bars.filter(pl.col("ts") >= before))


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    if cfg.format not in FORMATS:
        raise ConfigError(f"Expected format={', '.join(FORMATS)}, got {cfg.format}; choose one of them")
    forecasters = load_forecasters(model_folder(cfg))
    if cfg.bars is None:
        _check_no_file(cfg)
        forecaster, bars = _choose_by_store(cfg, forecasters)
        hourly_bars, source = bars.hourly_bars, bars.source
        states = forecaster.season_states(forecaster.grid(hourly_bars))
    else:
        forecaster = _choose_for_file(cfg, forecasters)
        hourly_bars, source = _read_file(cfg, forecaster)
        states = _read_states(cfg, forecaster)
    limits: Flags = construct(cfg.flags)
    forecast, tsteps, now = forecaster.forecast(hourly_bars, states), forecaster.spec.tsteps, clock.now()
    marked = [*describe_adoption(forecaster), *of_training(forecaster.provenance, source)]
    if cfg.format == "request":
        print(to_request(forecaster, hourly_bars))
    elif cfg.format == "json":
        flags = [*marked, *limits.find(forecast, tsteps, now)]
        print(json.dumps(to_json(forecast, source, flags), indent=1, allow_nan=False))
    else:
        print(format_forecast(forecast, source, [*marked, *limits.of_window(forecast, tsteps)], now))


def _choose_by_store(cfg: DictConfig, forecasters: Mapping[str, Forecaster]) -> tuple[Forecaster, SymbolBars]:
    """Return the symbol's forecaster, adopted if need be, and its stored bars."""
    check_adoptable(forecasters, cfg.symbol.name)
    store = processed_store(cfg)
    bars = SymbolBars(construct(cfg.symbol), store.read(), store.source)
    return choose_forecaster(forecasters, bars, until=bars.hourly_bars["ts"][-1]), bars


def _choose_for_file(cfg: DictConfig, forecasters: Mapping[str, Forecaster]) -> Forecaster:
    """Return the forecaster of the symbol that is typed; if none is, the model's own or its first."""
    if cfg.symbol.name not in forecasters and {SYMBOL, f"{SYMBOL}.name"} & typed_overrides().keys():
        return _choose_by_store(cfg, forecasters)[0]
    return forecasters.get(cfg.symbol.name, next(iter(forecasters.values())))


def _check_no_file(cfg: DictConfig) -> None:
    """Raises    ConfigError: options of a file, and no file"""
    usual = {"zone": None, "dates": None, "decimal": None, "stamps": "open", "price_factor": 1}
    if set_ := [f"{option}={cfg[option]}" for option, value in usual.items() if cfg[option] != value]:
        raise ConfigError(f"Expected bars=<file> with {set_[0]}, got none; add it, or leave {set_[0]} out")


def _read_states(cfg: DictConfig, forecaster: Forecaster) -> SeasonStates:
    """Return the season states of the stored bars, as the service has them; none without bars of the model's symbol."""
    symbol = read_symbol(cfg, forecaster.provenance.symbol)
    if symbol is None:
        return NO_STATES
    try:
        return forecaster.season_states(forecaster.grid(processed_store(cfg, symbol).read()))
    except NoRows:
        return NO_STATES


def _read_file(cfg: DictConfig, forecaster: Forecaster) -> tuple[pl.DataFrame, str]:
    with own_keys():
        files = Files(
            paths=str(cfg.bars),
            symbol=forecaster.provenance.symbol,
            zone=cfg.zone,
            dates=cfg.dates,
            decimal=cfg.decimal,
            price_factor=cfg.price_factor,
            batch_rows=500_000,
            stamps=cfg.stamps,
            keep_spikes=False,
        )
        hourly_bars, rejected = read_hourly_bars(
            files, forecaster.session, min_minutes_share=cfg.min_minutes_share, max_mismatch=cfg.max_mismatch
        )
    if rejected:
        log.warning("%d bad rows of %s left out; python -m lstm_ts.ingest names each", rejected, files.name)
    return hourly_bars, files.name


if __name__ == "__main__":
    main()
