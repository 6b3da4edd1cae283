"""A forecast in sentences, as CSV, and as the command line that requests it."""

import csv
from datetime import UTC, datetime, tzinfo
from html import escape
from io import StringIO
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from lstm_ts import clock
from lstm_ts.http_schema import ForecastReply, Skill, SkillOver, Step, StepSkill
from lstm_ts.market.prices import PriceFormat, Quote, price_format
from lstm_ts.market.session import HOUR
from lstm_ts.monitoring.confidence import describe_confidence
from lstm_ts.scoring.records import PERSISTENCE
from lstm_ts.scoring.tables import percent

STALE = "stale input"  # start of the service's flag on the time since the last bar
CSV_DECIMALS = 3  # beyond those that are shown


def short(ts: datetime, zone: tzinfo) -> str:
    """Format a time; the year is shown if it is not this one."""
    local = ts.astimezone(zone)
    return f"{local:{f'%a %d %b{year_of(local)} %H:%M'}}"


def year_of(local: datetime) -> str:
    """Return the year's part of a time format; empty for a date of the current year."""
    return "" if local.year == clock.now().astimezone(local.tzinfo or UTC).year else " %Y"


def signed(number: float) -> str:
    """Format with a sign and one decimal, without negative zero."""
    return f"{number:+z.1f}"


def prices_of(forecast: ForecastReply) -> PriceFormat:
    currency, decimals = forecast.currency, forecast.decimals
    quote = None if currency is None or decimals is None else Quote(currency, decimals)
    return price_format(quote, forecast.last_close)


def bps(step: Step) -> float:
    """Return the basis points of the median over the last close."""
    return 1e4 * (step.price / step.persistence - 1)


def moments(ts: datetime, zone: ZoneInfo) -> str:
    """Return the time in the zone, and also in UTC if that differs."""
    local = f"{short(ts, zone)} {zone.key}"
    return local if is_utc(ts, zone) else f"{local} ({short(ts, UTC)} UTC)"


def is_utc(ts: datetime, zone: ZoneInfo) -> bool:
    return not ts.astimezone(zone).utcoffset()


def warnings(forecast: ForecastReply, *, past: bool) -> str:
    """Return what to know before trusting the forecast; empty: the service raises no flag.

    past    whether the hours were chosen from a file: their age is then no warning
    """
    told = [flag for flag in forecast.flags if not (past and flag.startswith(STALE))]
    flags = "".join(f"<li>{escape(flag[0].upper() + flag[1:])}</li>" for flag in told)
    return f'<div class="flags"><b>Warnings</b><ul>{flags}</ul></div>' if flags else ""


def trust(forecast: ForecastReply) -> str:
    """Return the live skill step by step, and which version made the forecast."""
    model = forecast.model
    known = skill_block(forecast.skill, forecast.skill_reason)
    by = f"Made by version {model.version} of {model.name} ({model.alias}), trained until {model.trained_until[:10]}."
    return f'{known}<p class="quiet">{escape(by)}</p>'


def skill_block(skill: Skill | None, reason: str | None) -> str:
    """Return a sentence about each step's live skill, and why it is unknown or perhaps not the newest."""
    if skill is None:
        said = reason or "the service does not say why"
        return f"<p>Whether it beats the best baseline live is not known: {escape(said)}.</p>"
    steps = "".join(f"<li>{escape(step_skill_words(step))}</li>" for step in skill.steps)
    late = f" {reason[0].upper()}{reason[1:]}." if reason else ""
    what = "Live skill, the share by which its loss was below a baseline's"
    sure = f" The bounds hold with {describe_confidence(skill.confidence)} confidence." if skill.confidence else ""
    measured = f"Measured {skill.measured_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC.{sure}{late}"
    return f'<p>{what}:</p><ul>{steps}</ul><p class="quiet">{escape(measured)}</p>'


def step_skill_words(step: StepSkill) -> str:
    """Describe the skill at a step; it is claimed over the best baseline only, and only if its interval proves it."""
    hours = f"{step.step} session hour{'s' * (step.step > 1)} ahead"
    over = [over_words(f"{step.best}, the best baseline", step.over_best)]
    if step.best != PERSISTENCE:
        over.append(over_words(PERSISTENCE, step.over_persistence))
    judged = f"by {step.outcomes:,} outcomes since {step.since}"
    return f"{hours}, {judged}: {', '.join(over)}: {proof_words(step.over_best.lower, step.over_best.upper)}."


def over_words(name: str, over: SkillOver) -> str:
    said = f"{percent(over.skill, signed=True)} over {name}"
    if over.lower is None or over.upper is None:
        return said
    return f"{said} ({percent(over.lower, signed=True)} to {percent(over.upper, signed=True)})"


def proof_words(lower: float | None, upper: float | None) -> str:
    """Return whether the interval proves skill over the best baseline, in words; None: no interval exists yet."""
    if lower is None or upper is None:
        return "too few days to tell"
    return "proven skill" if lower > 0 else "worse, proven" if upper < 0 else "no proven skill"


def outcome_words(forecast: ForecastReply, after: pl.DataFrame) -> str:
    """Compare the forecast with the closes that followed; without any, return a sentence that the file ends here."""
    closes = dict(zip((ts + HOUR for ts in after["ts"]), after["close"], strict=True))
    known = [(step, closes[step.target_ts]) for step in forecast.path if step.target_ts in closes]
    if not known:
        return "<p>The file ends here: there is nothing to score this forecast against.</p>"
    off, idle = (
        np.mean([1e4 * abs(np.log(close / getattr(step, guess))) for step, close in known])
        for guess in ("price", "persistence")
    )
    inside = sum(step.lower_80 <= close <= step.upper_80 for step, close in known)
    return (
        f"<p>Over the {len(known)} hours that followed, the median was off by {off:.1f} bps on average, persistence by "
        f"{idle:.1f} bps; {inside} of {len(known)} closes lay within the 80 % interval. One window proves nothing.</p>"
    )


def to_csv(forecast: ForecastReply) -> str:
    levels, decimals = sorted(forecast.path[0].quantiles), prices_of(forecast).decimals + CSV_DECIMALS
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["step", "target_ts", "median", "lower_80", "upper_80", "persistence", *(f"q{q:g}" for q in levels)]
    )
    for number, step in enumerate(forecast.path, start=1):
        prices = (step.price, step.lower_80, step.upper_80, step.persistence, *(step.quantiles[q] for q in levels))
        writer.writerow([number, step.target_ts.isoformat(), *(f"{price:.{decimals}f}" for price in prices)])
    return out.getvalue()


def curl(url: str, symbol: str, *, key: bool, window: bool) -> str:
    """Return a command line that requests the same forecast."""
    header = ' -H "X-API-Key: $LSTM_TS_API_KEY"' if key else ""
    if window:
        return f"curl{header} {url}/predict --json @window.json"
    return f"curl{header} '{url}/forecast?symbol={symbol}'"
