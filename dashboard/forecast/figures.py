"""Key figures of a forecast at one step, each with its reference. Reads no store and calls no service."""

from dataclasses import dataclass
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from dashboard.ui.text import bps, moments, prices_of, proof_words, short, signed
from lstm_ts.http_schema import ForecastReply, Skill, Step
from lstm_ts.monitoring.messages import format_span
from lstm_ts.scoring.tables import percent


@dataclass(frozen=True)
class Figure:
    name: str
    value: str
    about: str
    kind: str = ""  # a class of the sheet

    def html(self) -> str:
        name, value, about = map(escape, (self.name, self.value, self.about))
        return f'<div class="{self.kind}"><dt>{name}</dt><dd><b>{value}</b><span>{about}</span></dd></div>'


def figures(forecast: ForecastReply, step: int, zone: ZoneInfo, now: datetime, *, past: bool) -> str:
    """Return the row of figures, as HTML.

    step    1..horizon
    past    whether the hours were chosen by the visitor: their age is then left out
    """
    chosen, prices = forecast.path[step - 1], prices_of(forecast)
    ahead, is_old = f"{step} h ahead", past or closed_steps(forecast, now) > 1
    told = [
        Figure("Last price" if is_old else "Price now", prices.amount(forecast.last_close), "persistence: it stays"),
        Figure(f"80 % interval, {ahead}", f"{prices.number(chosen.lower_80)} to {prices.number(chosen.upper_80)}",
               f"by {moments(chosen.target_ts, zone)}", "interval"),
        Figure(f"Median, {ahead}", prices.amount(chosen.price), f"{signed(bps(chosen))} bps {_way(chosen)}"),
        skill_figure(forecast.skill, forecast.skill_reason, step),
        Figure("Made at", short(forecast.origin_ts, zone), zone.key) if past else age_figure(forecast, zone, now),
        Figure(f"Version of {forecast.model.name}", f"{forecast.model.version}", arm_words(forecast)),
    ]  # fmt: skip
    return f'<dl class="figures">{"".join(figure.html() for figure in told)}</dl>'


def _way(step: Step) -> str:
    return "over persistence" if step.price >= step.persistence else "under persistence"


def arm_words(forecast: ForecastReply) -> str:
    """Return the alias that answered, the arm that it replaced if that has another name, and the end of training."""
    model = forecast.model
    who = model.alias if model.alias == forecast.arm else f"{model.alias}, for the {forecast.arm}"
    return f"{who}, trained until {model.trained_until[:10]}"


def closed_steps(forecast: ForecastReply, now: datetime) -> int:
    """Return how many hours of the path have closed."""
    return sum(step.target_ts <= now for step in forecast.path)


def age_figure(forecast: ForecastReply, zone: ZoneInfo, now: datetime) -> Figure:
    """Return the age of the last bar."""
    closed = closed_steps(forecast, now)
    more = "or more " * (closed == len(forecast.path))
    said = f"{closed} {more}session hours since {short(forecast.origin_ts, zone)}"
    return Figure("Age of the data", format_span(max(now - forecast.origin_ts, now - now)), said,
                  "bad" if closed > 1 else "")  # fmt: skip


def skill_figure(skill: Skill | None, reason: str | None, step: int) -> Figure:
    """Return the live skill at the nearest scored step."""
    if skill is None or not skill.steps:
        return Figure("Live skill", "not known", reason or "the service does not say why")
    nearest = min(skill.steps, key=lambda each: abs(each.step - step))
    over = nearest.over_best
    proof = proof_words(over.lower, over.upper)
    kind = {"proven skill": "good", "worse, proven": "bad"}.get(proof, "")
    return Figure(f"Live skill, {nearest.step} h ahead", percent(over.skill, signed=True),
                  f"over {nearest.best}: {proof}", kind)  # fmt: skip
