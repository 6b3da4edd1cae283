"""Runs as groups and as a table, and one of them in detail."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from shlex import quote
from zoneinfo import ZoneInfo

from dashboard.experiments.runs import NOT_OF_THE_MODEL, Run, Value, differing
from dashboard.ui.blocks import alert, table
from lstm_ts.registry.version import describe_pages, page_address
from lstm_ts.scoring.records import SHOWN_STEPS
from lstm_ts.scoring.scores import HorizonScores, describe_skill, step_name
from lstm_ts.scoring.tables import number, p_cell, percent

NONE = "-"
ROWS = 100  # of the table
COMMONEST = 6  # values of a parameter
LONG = re.compile(r"\d+\.\d{5,}(e-?\d+)?")  # as samplers set them


def when(run: Run, zone: ZoneInfo) -> str:
    return f"{run.started.astimezone(zone):%d %b %Y %H:%M:%S}"


def name(run: Run) -> str:
    """Return the command or the experiment of a run, or both, and the number of a sweep's trial."""
    parts = [run.command] * (run.command != "train" or not run.experiment) + [run.experiment] * bool(run.experiment)
    return " ".join(parts) + (f" #{run.trial}" if run.trial is not None else "")


def label(run: Run, zone: ZoneInfo) -> str:
    """Return a unique label; it names the symbol, since symbols may be retrained side by side."""
    return f"{when(run, zone)} · {name(run)}" + f", {run.symbol}" * bool(run.symbol)


def matches(run: Run, wanted: str, zone: ZoneInfo) -> bool:
    """Return whether the run's label, overrides, trouble and span contain all of the words."""
    text = " ".join((label(run, zone), *run.overrides, run.trouble, run.span)).lower()
    return all(word in text for word in wanted.lower().split())


def groups(runs: Sequence[Run], zone: ZoneInfo) -> dict[str, list[Run]]:
    """Return groups of runs: all, those of each experiment, those of each sweep."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        names = ["All runs"] + [f"Experiment {run.experiment}"] * bool(run.experiment)
        for each in names + [f"Sweep of {when(run, zone)}"] * (run.trial is not None):
            found.setdefault(each, []).append(run)
    return found


def listing(runs: Sequence[Run], zone: ZoneInfo) -> str:
    """Return a table of the newest runs, with their scores and the overrides that were typed."""
    steps = steps_of(runs)
    scores = [f"{step} h ahead, <br>bps" for step in steps]
    heads = [
        f"Started, <br>{escape(zone.key)}",
        "Run",
        "Validation loss <br>over har_rolling's",
        *scores,
        "Verdict",
        "Set to",
    ]
    count = f"{ROWS} of {len(runs)} runs" if len(runs) > ROWS else f"{len(runs)} run{'s' * (len(runs) > 1)}"
    caption = f"{count}, newest first: pinball loss, and skill over the best baseline"
    rows = [_row(run, steps, zone) for run in runs[:ROWS]]
    return (
        f'<div class="low">{table(caption, heads, rows, text=(1, len(heads) - 2, len(heads) - 1), sortable=True)}</div>'
    )


def _row(run: Run, steps: Sequence[str], zone: ZoneInfo) -> list[str]:
    first = next(iter(run.horizons), None)
    typed = ", ".join(text for text in run.overrides if not text.startswith(("+experiment=", *NOT_OF_THE_MODEL)))
    return [
        f'<data value="{run.started:%Y%m%d%H%M%S}">{when(run, zone)}</data>',
        f"{escape(name(run))}<br><small>{escape(run.symbol)}</small>",
        *score_cells(run, steps),
        wrapped(describe_skill(first, run.horizons[first]) if first else run.trouble),
        wrapped(LONG.sub(lambda found: f"{float(found[0]):.4g}", typed) or NONE),
    ]


def steps_of(runs: Sequence[Run]) -> list[str]:
    """Return the steps at which at least one of the runs was scored, among those that are shown."""
    return [step for step in map(str, SHOWN_STEPS) if any(step in run.horizons for run in runs)]


def score_cells(run: Run, steps: Sequence[str]) -> list[str]:
    """Return cells with the run's lowest validation loss and its scores at the steps."""
    scores = (_bps(run.horizons[step]) if step in run.horizons else NONE for step in steps)
    return [NONE if run.loss is None else f"{run.loss:.4f}", *scores]


def wrapped(text: str) -> str:
    return f'<span class="wrap">{escape(text)}</span>'


def _bps(horizon: HorizonScores) -> str:
    return f"{number(horizon.pinball_bps, '{:.3f}')}<br><small>{_skill(horizon, horizon.best)}</small>"


def _skill(horizon: HorizonScores, baseline: str) -> str:
    return percent(horizon.skill.get(baseline, math.nan), signed=True)


def format_value(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def spans_of(runs: Sequence[Run]) -> dict[str, str]:
    """Return the spans on which runs were scored, that of the newest run first, by a label with their number."""
    counts = Counter(run.span for run in runs if run.span)
    return {f"{span} ({count} run{'s' * (count > 1)})": span for span, count in counts.items()}


def details(run: Run, others: Sequence[Run], registry_uri: str) -> str:
    """Return a run's verdicts, scores, differences from other runs, command, and where it is tracked and registered."""
    command = " ".join(quote(text) for text in ("python", "-m", f"lstm_ts.{run.command}", *run.overrides))
    horizons = run.horizons
    steps = [step for step in map(str, SHOWN_STEPS) if step in horizons]
    verdicts = "".join(f"<li>{escape(describe_skill(step, horizons[step]))}</li>" for step in steps)
    facts = f"Scored on {run.span}. " * bool(run.span) + f"Its files are in {run.folder}."
    return (
        (alert(run.trouble) if run.trouble else f"<ul>{verdicts}</ul>")
        + f'<p class="quiet">{escape(facts)}</p>'
        + (_score_table(horizons, steps) if steps else "")
        + _difference_table(run, others)
        + f'<p class="quiet">The command:</p><pre>{escape(command)}</pre>'
        + _tracked(run)
        + (_registered(run, registry_uri) if run.command == "retrain" else "")
    )


def _score_table(horizons: Mapping[str, HorizonScores], steps: Sequence[str]) -> str:
    heads = [head for step in steps for head in (f"{step_name(int(step))}, bps", "skill", "DM p")]
    names = dict.fromkeys(name for step in steps for name in horizons[step].baselines)
    rows = [["model", *(cell for step in steps for cell in (number(horizons[step].pinball_bps, "{:.3f}"), "", ""))]]
    for baseline in names:
        cells = [cell for step in steps for cell in _baseline_cells(horizons[step], baseline)]
        rows.append([escape(baseline), *cells])
    return table("Pinball loss on the same origins", ["Forecaster", *heads], rows)


def _baseline_cells(horizon: HorizonScores, baseline: str) -> tuple[str, str, str]:
    if baseline not in horizon.baselines:
        return NONE, NONE, NONE
    p = p_cell(horizon.dm_p.get(baseline, math.nan))
    return number(horizon.baselines[baseline].pinball_bps, "{:.3f}"), _skill(horizon, baseline), escape(p)


def _difference_table(run: Run, others: Sequence[Run]) -> str:
    """Return a table of the parameters that differ among the runs that are shown."""
    rows = []
    for parameter in differing([run, *others]):
        here = format_value(run.config[parameter]) if parameter in run.config else NONE
        counts = Counter(format_value(other.config[parameter]) for other in others if parameter in other.config)
        elsewhere = ", ".join(f"{value} ({count})" for value, count in counts.most_common(COMMONEST))
        elsewhere += f" and {len(counts) - COMMONEST} more" * (len(counts) > COMMONEST)
        rows.append((escape(parameter), wrapped(here), wrapped(elsewhere)))
    if not rows:
        return '<p class="quiet">The other runs shown have the same configuration.</p>' * (len(others) > 1)
    heads = ("Parameter", "Here", "Among all that are shown (runs)")
    return table("What runs differ in", heads, rows, text=(1, 2))


def _tracked(run: Run) -> str:
    if run.url:
        return _link(run.url, "This run at Weights & Biases")
    if run.offline:
        sync = escape(f"wandb sync {quote(str(run.offline))}")
        return f'<p class="quiet">Tracked offline; to send it to Weights &amp; Biases:</p><pre>{sync}</pre>'
    return '<p class="quiet">Not tracked with Weights &amp; Biases; logger=wandb does.</p>'


def _link(address: str, words: str) -> str:
    return f'<p><a href="{escape(address)}" target="_blank" rel="noopener">{escape(words)}</a></p>'


def _registered(run: Run, uri: str) -> str:
    """Return a link to MLflow's page of the versions of the run's model, or how to open that page."""
    name = str(run.config.get("name", run.symbol))
    if address := page_address(uri, name):
        return _link(address, f"Versions of {name} in MLflow")
    return f'<p class="quiet">{escape(describe_pages(uri, name))}</p>'
