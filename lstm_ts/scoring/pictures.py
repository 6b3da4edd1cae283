"""The four pictures of a report, and one of a forecast, as explicit matplotlib figures (no pyplot, no global state).

Legend: N origins, H steps, Q levels, M months. Colours are Okabe & Ito's, distinguishable for colour-blind readers.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import stdtrit

from lstm_ts.market.prices import positional
from lstm_ts.scoring import metrics
from lstm_ts.scoring.metrics import Array
from lstm_ts.scoring.records import PERSISTENCE, ForecastRecord, Times
from lstm_ts.scoring.scores import CLAIM_P, Scores, step_name

BLACK, GREY, BLUE, ORANGE, GREEN, VERMILLION = "#222222", "#777777", "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLORS = (BLUE, ORANGE, GREEN, VERMILLION)
STEP_STYLE = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
FAN = (("0.9", "#DDEBF5"), ("0.8", "#B0D2E8"), ("0.5", "#74B2D9"))
HISTORY_HOURS = 48
LABELLED_HOURS = 12  # from one time at the axis to the next
HARD = 1.02  # times the loss of the best baseline


class Picture(Figure):
    """A figure that notebooks show, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def draw_pictures(record: ForecastRecord, scores: Scores, source_name: str) -> dict[str, Figure]:
    """Figures by file name; each says where its data comes from, so that synthetic ones cannot be mistaken."""
    figures = {
        "forecast_fan": _draw_fan(record),
        "calibration": _draw_calibration(record),
        "skill_by_horizon": _draw_skill_by_horizon(record, scores),
        "skill_through_time": _draw_skill_through_time(record),
    }
    first, last = (moment[:10] for moment in scores.span)
    for figure in figures.values():
        _sign(figure, f"{scores.symbol} · {source_name} · {scores.n:,} origins, {first} to {last}")
    return figures


def draw_forecast(
    symbol: str,
    unit: str,
    source_name: str,
    past: tuple[Times, Array],
    ahead: tuple[Times, Array],
    levels: Sequence[float],
) -> Figure:
    """The last hours and the fan that follows; closed hours take no room.

    past    closing times and closes, the last one the origin's;  ahead   closing times and q_HQ, log returns
    """
    (past_ts, close_N), (ahead_ts, q_HQ) = past, ahead
    figure, (axes,) = _panels(f"{symbol}: the next {len(q_HQ)} session hours", 1, 1, height=4.6)
    _draw_bands(axes, q_HQ, float(close_N[-1]), levels)
    shown_ts, shown_N = past_ts[-HISTORY_HOURS:], close_N[-HISTORY_HOURS:]
    axes.plot(np.arange(1 - len(shown_N), 1), shown_N, color=BLACK, linewidth=1.2, label="close")
    hours = np.concatenate([shown_ts, ahead_ts])
    places = np.arange((len(shown_ts) - 1) % LABELLED_HOURS, len(hours), LABELLED_HOURS)
    axes.set_xticks(places - len(shown_ts) + 1, [f"{ts:%a %d %b}\n{ts:%Y %H:%M}" for ts in hours[places].tolist()])
    origin = np.datetime_as_string(past_ts[-1], unit="m").replace("T", " ")
    _label(axes, f"From {origin} UTC, close {positional(close_N[-1])}", "closing time, UTC", unit)
    _legend(figure, [axes])
    _sign(figure, f"{symbol} · {source_name}")
    return figure


def _sign(figure: Figure, footer: str) -> None:
    figure.supxlabel(footer, fontsize=8.5, color="#555555", x=0.995, ha="right")


def _panels(title: str, rows: int, columns: int, *, height: float, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Picture(figsize=(12.0, height), layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left", weight="bold")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
    return figure, panels


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10.5, loc="left")
    axes.set_xlabel(x, fontsize=9.5)
    axes.set_ylabel(y, fontsize=9.5)


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend beside the title, out of the way of the data."""
    entries = [entry for axes in panels for entry in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles, labels = zip(*entries, strict=True)
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=9, frameon=False)


def _draw_fan(record: ForecastRecord) -> Figure:
    """Three origins picked by rule, not by eye: the last one, and a calm and a volatile one by window volatility."""
    order = np.argsort(record.window_volatility_N, kind="stable")
    chosen = {
        "Latest origin": len(order) - 1,
        "Calm: 10th percentile of volatility": int(order[len(order) // 10]),
        "Volatile: 90th percentile of volatility": int(order[len(order) * 9 // 10]),
    }
    figure, panels = _panels(f"{record.symbol}: forecast fan over prices", 1, 3, height=4.4)
    unit = record.quote.currency if record.quote else "price"
    hours = np.union1d(record.origin_ts_N, record.target_ts_NH)
    for axes, (name, origin) in zip(panels, chosen.items(), strict=True):
        _draw_one_fan(axes, record, origin, np.searchsorted(hours, record.origin_ts_N))
        stamp = np.datetime_as_string(record.origin_ts_N[origin], unit="m").replace("T", " ")
        _label(axes, f"{name}\n{stamp} UTC", "session hours from the origin", unit)
    _legend(figure, panels[:1])
    return figure


def _draw_one_fan(axes: Axes, record: ForecastRecord, origin: int, hour_N: NDArray[np.int64]) -> None:
    """`hour_N` numbers the session hours of the origins, so that closed hours take no room."""
    close = record.last_close_N[origin]
    past_N = (hour_N > hour_N[origin] - HISTORY_HOURS) & (hour_N <= hour_N[origin])
    _draw_bands(axes, record.q_NHQ[origin], close, record.levels)
    axes.plot(hour_N[past_N] - hour_N[origin], record.last_close_N[past_N], color=BLACK, linewidth=1.2, label="close")
    actual_H = close * np.exp(np.append(0.0, record.y_NH[origin]))
    axes.plot(np.arange(record.horizon + 1), actual_H, color=BLACK, linewidth=1.0, marker=".", markersize=4)


def _draw_bands(axes: Axes, q_HQ: Array, close: float, levels: Sequence[float]) -> None:
    """Intervals, median and persistence of one forecast over the hours 0..H from its origin.

    q_HQ   log returns
    """
    ahead_H = np.arange(len(q_HQ) + 1)
    price_HQ = close * np.exp(np.vstack([np.zeros(len(levels)), q_HQ]))
    for name, shade in FAN:
        i, j = (metrics.level_index(levels, level) for level in metrics.CENTRAL_INTERVALS[name])
        if i is not None and j is not None:
            label = f"{100 * float(name):.0f} % interval"
            axes.fill_between(ahead_H, price_HQ[:, i], price_HQ[:, j], color=shade, linewidth=0, label=label)
    axes.plot(ahead_H, price_HQ[:, metrics.level_index(levels, 0.5)], color=BLUE, linewidth=1.6, label="median")
    axes.plot(ahead_H[[0, -1]], [close, close], color=VERMILLION, linewidth=1.4, linestyle="--", label="persistence")
    axes.axvline(0, color=GREY, linewidth=0.8)


def _draw_calibration(record: ForecastRecord) -> Figure:
    figure, (left, right) = _panels(f"{record.symbol}: calibration of {record.model}'s quantiles", 1, 2, height=5.0)
    levels = np.array(record.levels)
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfect calibration")
    right.axhline(0, color=GREY, linewidth=1)
    right.axhspan(-2, 2, color=GREY, alpha=0.12, linewidth=0)
    for step, (color, marker) in zip(record.shown_steps, STEP_STYLE, strict=False):
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4.5, "label": step_name(step)}
        y_N, q_NQ = record.y_NH[:, step - 1], record.q_NHQ[:, step - 1]
        below_Q = [metrics.coverage(y_N, np.full_like(y_N, -np.inf), q_NQ[:, i]) for i in range(len(levels))]
        left.plot(levels, below_Q, **style)
        nominal, observed = metrics.mirrored_coverages(y_N, q_NQ, record.levels)
        right.plot(100 * nominal, 100 * (observed - nominal), **style)
    zeros_N = np.zeros(len(record.y_NH))
    falls = metrics.coverage(record.y_NH[:, 0], zeros_N - np.inf, zeros_N)
    left.axhline(falls, color=VERMILLION, linewidth=1.4, linestyle="--", label="persistence, 1 hour ahead")
    _label(left, "Quantile levels", "nominal level", "share of returns at or below the quantile")
    _label(right, "Central intervals (grey band: ±2 points)", "nominal coverage, %", "observed minus nominal, points")
    left.legend(fontsize=9, frameon=False)
    return figure


def _draw_skill_by_horizon(record: ForecastRecord, scores: Scores) -> Figure:
    """Draw the skill over hard baselines on the left, over easy ones on the right: one scale does not suit both."""
    figure, panels = _panels(f"{record.symbol}: skill of {record.model} by horizon", 1, 2, height=4.6)
    losses = record.relative_losses
    hard = [name for name, loss in losses.items() if loss <= HARD * min(losses.values())]
    for axes, names in zip(panels, (hard, [name for name in losses if name not in hard]), strict=True):
        axes.axhline(0, color=GREY, linewidth=1)
        for name in names:
            _draw_skill(axes, record, scores, name, COLORS[list(losses).index(name) % len(COLORS)])
        axes.set_xticks([1, *range(6, record.horizon + 1, 6)])
        _label(axes, f"Bars: 95 % interval; filled: Diebold-Mariano p < {CLAIM_P}", "session hours ahead", "skill, %")
    _legend(figure, panels)
    return figure


def _draw_skill(axes: Axes, record: ForecastRecord, scores: Scores, name: str, color: str) -> None:
    steps = [step for step in range(1, record.horizon + 1) if name in record.others_at(step)]
    skill = np.array([100 * scores.horizons[str(step)].skill[name] for step in steps])
    half = np.array([_half_width(record, name, step) for step in steps])
    faces = [color if scores.horizons[str(step)].dm_p[name] < CLAIM_P else "white" for step in steps]
    # A forecaster that skips steps gets points only: a line would claim the steps between.
    line = "-" if len(steps) == record.horizon else ""
    axes.errorbar(steps, skill, half, color=color, linestyle=line, linewidth=1.2, elinewidth=1, label=f"over {name}")
    axes.scatter(steps, skill, s=28, facecolors=faces, edgecolors=color, zorder=3)


def _half_width(record: ForecastRecord, name: str, step: int) -> float:
    """Half of the 95 % interval of the skill in %, the baseline's mean loss taken as fixed."""
    theirs_N = record.pinball_NH[name][:, step - 1]
    test = metrics.diebold_mariano(record.loss_NH[:, step - 1], theirs_N, step=step)
    return 100 * float(stdtrit(max(test.n - 1, 1), 0.975)) * test.standard_error / metrics.mean_of_known(theirs_N)


def _draw_skill_through_time(record: ForecastRecord) -> Figure:
    """Upper row by month; the lower row adds up each origin's share of the skill, so it ends at the table's figure."""
    always = [name for name in record.relative_losses if all(name in record.others_at(s) for s in record.shown_steps)]
    names = (always[0], PERSISTENCE)
    figure, panels = _panels(f"{record.symbol}: skill of {record.model} through time", 2, 2, height=6.6, sharex=True)
    for column, name in enumerate(names):
        upper, lower = panels[column], panels[column + 2]
        for step, (color, marker) in zip(record.shown_steps, STEP_STYLE, strict=False):
            ours_N, theirs_N = record.loss_NH[:, step - 1], record.pinball_NH[name][:, step - 1]
            month_M, skill_M = _monthly_skill(record.origin_ts_N, ours_N, theirs_N)
            upper.plot(month_M, skill_M, color=color, marker=marker, markersize=4.5, linewidth=1, label=step_name(step))
            total = metrics.mean_of_known(theirs_N) * np.isfinite(theirs_N).sum()
            gain_N = 100 * np.nancumsum(theirs_N - ours_N) / total
            lower.plot(record.origin_ts_N, gain_N, color=color, linewidth=1.3)
        _label(upper, f"Over {name}, by month", "", "skill, %")
        _label(lower, f"Over {name}, cumulative loss difference", "", "% of the baseline's total loss")
        locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
        lower.xaxis.set_major_locator(locator)
        lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for axes in panels:
        axes.axhline(0, color=GREY, linewidth=1)
    _legend(figure, panels[:1])
    return figure


def _monthly_skill(origin_ts_N: Times, ours_N: Array, theirs_N: Array) -> tuple[Times, Array]:
    """Skill in % of each calendar month with a scored target, and the mean time of its origins."""
    known_N = ~np.isnan(ours_N)
    ts_N = origin_ts_N[known_N]
    index_N = np.unique(ts_N.astype("datetime64[M]"), return_inverse=True)[1]
    ours_M, theirs_M = (np.bincount(index_N, loss_N[known_N]) for loss_N in (ours_N, theirs_N))
    middle_M = np.bincount(index_N, ts_N.astype(np.int64)) / np.bincount(index_N)
    return middle_M.astype(np.int64).astype("datetime64[us]"), 100 * (1 - ours_M / theirs_M)
