"""Challengers' figures beside their champions', for Prometheus."""

from collections.abc import Collection, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.challenge import Challenge
from lstm_ts.registry.version import DONE
from serve.ledger.reader import VersionKey
from serve.traffic import Arm

LABELS = ["name", "version", "champion"]
LIVE = "_live"  # at the end of evidence that has a bound of its own


def find_challengers(ledger: Ledger, names: Collection[str]) -> frozenset[VersionKey]:
    """Those of registered models, whether or not they get requests."""
    moves = {name: [row for row in ledger.alias_changes(name, Arm.CHALLENGER) if row.state == DONE] for name in names}
    last = {name: rows[-1].to_version for name, rows in moves.items() if rows}
    return frozenset((name, version) for name, version in last.items() if version)


def challenge_metrics(challenges: Mapping[VersionKey, Challenge]) -> Iterator[Metric]:
    of = [*LABELS, "of"]
    evidence = GaugeMetricFamily("lstm_ts_challenge_evidence", "E-value of each verdict, log10", labels=of)
    needed = GaugeMetricFamily("lstm_ts_challenge_needed", "E-value that a verdict needs, log10", labels=of)
    verdict = GaugeMetricFamily(
        "lstm_ts_challenge_verdict", "1 for the present verdict, else absent", labels=[*LABELS, "verdict"]
    )
    for (name, version), challenge in challenges.items():
        labels = [name, str(version), str(challenge.champion)]
        verdict.add_metric([*labels, challenge.verdict], 1)
        values = dict(vars(challenge.evidence)) if challenge.evidence else {}
        bounds = {kind: values.pop(kind, None) for kind in ("needed", f"needed{LIVE}")}
        for kind, value in values.items():
            evidence.add_metric([*labels, kind], value)
            needed.add_metric([*labels, kind], bounds[f"needed{LIVE}" if kind.endswith(LIVE) else "needed"])
    yield from (evidence, needed, verdict)
