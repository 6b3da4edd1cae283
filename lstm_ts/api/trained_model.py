"""Models for Python: `lstm_ts.load`, and a model's forecasts, scores and figures.

The numbers are those of `python -m lstm_ts.train`, `evaluate` and `predict`.
"""

import copy
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import polars as pl

from lstm_ts.api.hourly_bars import Frame, HourlyBars, check_process, read_bars
from lstm_ts.cli import compose
from lstm_ts.commands import check_libraries
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ArtifactError, ConfigError, DataError, NoRows
from lstm_ts.market.bars import describe_source, is_synthetic
from lstm_ts.market.prices import price_format
from lstm_ts.market.session import utc
from lstm_ts.market.symbol import Symbol
from lstm_ts.model.adoption import choose_forecaster, describe_adoption
from lstm_ts.model.artifact import load_forecasters, save_forecasters
from lstm_ts.model.evaluation import Span, describe_record, evaluate
from lstm_ts.model.flags import Flags
from lstm_ts.model.forecaster import Forecast, Forecaster
from lstm_ts.model.symbol_data import SymbolBars
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import PERSISTENCE, ForecastRecord, Times, quantile_column
from lstm_ts.scoring.scores import compute_scores, scores_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Moment = str | datetime | None
PictureName = Literal["forecast", "forecast_fan", "calibration", "skill_by_horizon", "skill_through_time"]

log = logging.getLogger(__name__)


def load(folder: str | Path) -> "TrainedModel":
    """Load the model of a folder that `save`, `python -m lstm_ts.train` or `registry action=export` has written.

    Raises    ArtifactError: no such folder, or not as it was saved
    """
    check_process(os.getpid())
    path = _to_path(folder)
    return TrainedModel(load_forecasters(path / "model" if (path / "model").is_dir() else path))


@dataclass(frozen=True, repr=False, eq=False)
class TrainedModel:
    """A network, and all that is needed to forecast each of its symbols."""

    forecasters: Mapping[str, Forecaster]  # by symbol

    def forecast(self, bars: "Frame | HourlyBars[Frame]") -> Frame:
        """Forecast the hours after the last bar, a row each: `step, target_ts, persistence`, and closes `q05` to `q95`.

        `target_ts` is the close of the hour; the median `q50` is the point forecast; prices in the symbol's currency.
        Anything unusual in the window is logged as a warning.

        bars     the longer, the better: the last `tsteps` hours are the window, the rest gives the hours' usual size

        Raises   NotEnoughBars
        """
        hours: HourlyBars[Frame] = self._read(bars)
        forecast = self._forecast(hours)
        prices_LH = forecast.price_HL(*forecast.levels).T
        frame = pl.DataFrame(
            {
                "step": range(1, len(forecast.target_ts_H) + 1),
                "target_ts": pl.Series(forecast.target_ts_H, dtype=pl.Datetime("us", "UTC")),
                PERSISTENCE: [forecast.last_close] * len(forecast.target_ts_H),
                **dict(zip(map(quantile_column, forecast.levels), prices_LH, strict=True)),
            }
        )
        return hours.as_kind(frame)

    def score(self, bars: "Frame | HourlyBars[Frame]", *, start: Moment = None, end: Moment = None) -> Frame:
        """Score the model beside the baselines, as `python -m lstm_ts.evaluate`: a row for each step and forecaster.

        `skill` is 1 - the model's pinball loss / the baseline's, `dm_p` the p-value of their Diebold-Mariano test.

        start, end   of the origins, UTC; by default all that the model has not seen in training and validation

        Raises       NoRows: no window of `tsteps` hours in the span
        """
        hours: HourlyBars[Frame] = self._read(bars)
        return hours.as_kind(scores_frame(compute_scores(self._evaluate(hours, start, end))))

    def plot(
        self,
        bars: "Frame | HourlyBars[Frame]",
        picture: PictureName = "forecast",
        *,
        start: Moment = None,
        end: Moment = None,
    ) -> "Figure":
        """Draw a figure of matplotlib: the next hours after the last bars, or one of the pictures of a report.

        start, end   of the origins of a report's picture, as in `score`
        """
        check_libraries("plot", {"train": ("matplotlib",)})
        from lstm_ts.scoring.pictures import draw_forecast, draw_pictures  # imports matplotlib

        if picture not in get_args(PictureName):
            raise ConfigError(f"Expected a picture among {', '.join(get_args(PictureName))}, got {picture}; choose one")
        hours = self._read(bars)
        if picture != "forecast":
            record = self._evaluate(hours, start, end)
            return draw_pictures(record, compute_scores(record), self._describe_source(hours))[picture]
        forecast = self._forecast(hours)
        ahead = np.array([ts.replace(tzinfo=None) for ts in forecast.target_ts_H], "datetime64[us]"), forecast.q_HQ
        unit = price_format(forecast.quote, forecast.last_close).unit
        source = self._describe_source(hours)
        return draw_forecast(forecast.symbol, unit, source, _closes(hours), ahead, forecast.levels)

    def _describe_source(self, hours: HourlyBars[Any]) -> str:
        theirs = self.forecasters.get(hours.symbol_bars.symbol.name) or next(iter(self.forecasters.values()))
        return describe_source(hours.source, theirs.provenance.source)

    def save(self, folder: str | Path) -> Path:
        """Write a model folder, for `load` and for the commands.

        Raises    ConfigError: it exists already, or cannot be written
        """
        path = _to_path(folder)
        if path.exists():
            raise ConfigError(f"Expected a new folder, got {path}, which exists; name another one, or remove it")
        try:
            save_forecasters(list(self.forecasters.values()), path)
        except OSError as error:
            raise ConfigError(f"Expected a folder to write, got {path}: {error.strerror}; name another one") from error
        return path

    @property
    def scores(self) -> Mapping[str, Any]:
        """A copy of the scores of the hours after training, of the first symbol, as in scores.json."""
        return copy.deepcopy(next(iter(self.forecasters.values())).scores)

    def __repr__(self) -> str:
        first = next(iter(self.forecasters.values()))
        spec, provenance = first.spec, first.provenance
        return (
            f"{first.network.name} of {', '.join(self.forecasters)}: windows of {spec.tsteps} hours, {spec.horizon} "
            f"ahead; trained until {provenance.trained_until}; bars: {provenance.source}"
        )

    def _read(self, bars: Any) -> HourlyBars[Any]:
        """Read bars; a frame is taken for the model's symbol, in the sessions of its training.

        Raises    ConfigError: a frame, and a model of several symbols
        """
        check_process(os.getpid())
        if isinstance(bars, HourlyBars):
            return bars
        if len(self.forecasters) > 1:
            raise ConfigError(
                f"Expected bars that say which of {', '.join(self.forecasters)} they are of, got "
                f"{type(bars).__name__}; read them by lstm_ts.read_bars(frame, symbol=…)"
            )
        ((name, forecaster),) = self.forecasters.items()
        own: str | Symbol = name
        if quote := forecaster.quote:
            own = Symbol(name=name, session=forecaster.session, currency=quote.currency, decimals=quote.decimals)
        try:
            return read_bars(bars, symbol=own)
        except (ConfigError, DataError) as error:
            if not (option := re.search(r"\bsource\.(?!paths)(\w+)", str(error.__cause__))):
                raise
            raise type(error)(f"{error}, by lstm_ts.read_bars(…, symbol={name!r}, {option[1]}=…)") from error

    def _choose(self, bars: SymbolBars, until: datetime | None) -> Forecaster:
        asked, known = bars.symbol.name, list(self.forecasters)
        if asked not in known and len(known) == 1:
            raise ArtifactError(
                f"Expected bars of {known[0]}, as in the model's training, got {asked}; load or fit a model of {asked}"
            )
        forecaster = choose_forecaster(self.forecasters, bars, until=until)
        theirs, ours = ((each.calendar, each.zone) for each in (forecaster.session, bars.symbol.session))
        if theirs != ours:
            raise ConfigError(f"Expected bars in the model's sessions, {theirs}, got {ours}; set the symbol's to these")
        for note in describe_adoption(forecaster):
            log.warning("%s", note)
        trained_on = forecaster.provenance.source
        if is_synthetic(bars.source) != is_synthetic(trained_on):
            log.warning("The model was trained on %s, and is applied to %s", trained_on, bars.source)
        return forecaster

    def _forecast(self, hours: HourlyBars[Any]) -> Forecast:
        hourly_bars = hours.symbol_bars.hourly_bars
        forecaster = self._choose(hours.symbol_bars, hourly_bars["ts"][-1])
        forecast = forecaster.forecast(hourly_bars, forecaster.season_states(forecaster.grid(hourly_bars)))
        for flag in _read_flags().of_window(forecast, forecaster.spec.tsteps):
            log.warning("Warning about the forecast of %s: %s", forecast.symbol, flag)
        return forecast

    def _evaluate(self, hours: HourlyBars[Any], start: Moment, end: Moment) -> ForecastRecord:
        bars, first = hours.symbol_bars, utc(start)
        forecaster = self._choose(bars, first)
        record = evaluate(forecaster, bars.hourly_bars, Span.given(first, utc(end), forecaster))
        if np.isnan(record.y_NH).all():
            raise NoRows(
                f"Expected outcomes to score, got none in bars that end {bars.hourly_bars['ts'][-1]}; give later bars, "
                f"or an earlier start"
            )
        for note in describe_record(forecaster, record):
            log.warning("%s", note)
        return record


def _to_path(folder: str | Path) -> Path:
    """Raises    ConfigError: no path that a folder can have"""
    if not isinstance(folder, str | os.PathLike):
        raise ConfigError(f"Expected the path of a folder, got {folder!r}")
    path = Path(os.path.expanduser(folder))  # noqa: PTH111 - Path's raises for users unknown
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"Expected the path of a folder, got {str(path)[:60]!r}: {why}; name another one") from error
    return path


@cache
def _read_flags() -> Flags:
    found: Flags = construct(compose("predict", ["model=any"]).flags)
    return found


def _closes(hours: HourlyBars[Any]) -> tuple[Times, Array]:
    """Return closing times and closes."""
    bars = hours.symbol_bars.hourly_bars
    return (bars["ts"] + timedelta(hours=1)).dt.replace_time_zone(None).to_numpy(), bars["close"].to_numpy()
