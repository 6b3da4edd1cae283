import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands import mistake, run_process, succeed
from commands import run as run_command
from omegaconf import OmegaConf
from processes import WAIT_S, child, free_port, python, read_line, wait_for
from webhook import SECRETS, Webhook, open_webhook

from lstm_ts.alerts import AlertRequest, answer
from lstm_ts.cli import compose
from lstm_ts.configuration.parts import construct
from lstm_ts.errors import ConfigError, LedgerError
from lstm_ts.ledger.alert_rows import DeliveryRow, IncidentRow, SilenceRow
from lstm_ts.ledger.alert_tables import (
    add_silence,
    end_silence,
    read_active,
    read_deliveries,
    read_incidents,
    read_silences,
)
from lstm_ts.ledger.incident_days import IncidentDay, fold_incidents, read_incident_days
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitor import RunFindings, report_findings
from lstm_ts.monitoring.alerts import RULES, Alerts, Severity, find_changes, make_alerts
from lstm_ts.monitoring.checks import record_findings
from lstm_ts.monitoring.delivery import deliver, name_receivers
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import ReportResult, report
from lstm_ts.monitoring.ledger_outage import alert_on_outage
from lstm_ts.monitoring.messages import SHOWN, Notification, write_message

AT = datetime(2026, 11, 25, 14, 4, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
USUAL = {"severity": "warning", "bad": 1, "hours": 0, "good": 1, "outside_sessions": True, "unknown": False}
DRIFT = Finding(
    "concept_drift",
    "XAGUSD",
    Health.BAD,
    "Version 3 of XAGUSD errs 12 % more over the best baseline than at the gate.",
    "python -m lstm_ts.monitor action=status symbol=XAGUSD",
)
DISK = Finding("disk", "data", Health.BAD, "3 % of the disk of data is free.", "df -h data")
STALE = Finding("data_stale", "XAGUSD", Health.BAD, "No bar of XAGUSD for 3 session hours.", "python -m lstm_ts.ingest")


def good(finding: Finding) -> Finding:
    return replace(finding, health=Health.GOOD, sentence="All is well.")


def unknown(finding: Finding) -> Finding:
    return replace(finding, health=Health.UNKNOWN, sentence="Nobody knows.")


WAITS = {"first_s": 60, "longest_s": 3600}
CAUSES = {"data_stale": "pipeline_late"}
ALERTS = "python -m lstm_ts.alerts paths.outputs=outputs/real"


def alerts(*urls: str, timeout_s: float = 20, **rules: dict[str, object]) -> Alerts:
    """Each rule as usual, but for `rules`."""
    made = {name: USUAL | rules.get(name, {}) for name in RULES}
    given = {"causes": CAUSES, "receivers": " ".join(urls) or None, "timeout_s": timeout_s, "waits": WAITS}
    return make_alerts(rules=made, paths=" paths.outputs=outputs/real", **given)


def run(
    ledger: Ledger, settings: Alerts, hours: float, *findings: Finding, closed: tuple[str, ...] = ()
) -> ReportResult:
    return report(ledger, settings, findings, now=AT + hours * HOUR, closed=closed)


def silence(ledger: Ledger, hours: float, subject: str | None = None) -> SilenceRow:
    until = AT + hours * HOUR
    row = SilenceRow(0, "concept_drift", subject, AT, until, "root", "we know", None, None)
    with ledger.transaction() as connection:
        row = replace(row, number=add_silence(connection, row))
        assert read_silences(connection, at=AT) == [row]
        assert read_silences(connection, at=until) == []
    return row


def incidents(ledger: Ledger) -> list[IncidentRow]:
    with ledger.transaction() as connection:
        return read_incidents(connection, since=AT)


def deliveries(ledger: Ledger) -> list[DeliveryRow]:
    with ledger.transaction() as connection:
        return read_deliveries(connection, read_incidents(connection, since=AT))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Ledger]:
    """On SQLite: what is tried does not depend on the database."""
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with open_webhook() as opened:
        yield opened


def test_an_incident_is_told_once_over_many_runs_and_so_is_its_end(ledger: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    for hours in range(5):
        told = run(ledger, settings, hours, DRIFT)
        assert [row.number for row in told.opened] == [1] * (hours == 0)
    for hours in range(5, 8):
        run(ledger, settings, hours, good(DRIFT))
    first, second = hook.received
    assert (first["title"], first["type"]) == ("[warning] concept_drift of XAGUSD", "warning")
    assert first["message"].splitlines() == [
        DRIFT.sentence,
        f"More: {DRIFT.command}",
        "Incident 1: concept_drift of XAGUSD, warning, since Wed 2026-11-25 14:04 UTC",
    ]
    assert (second["title"], second["type"]) == ("[resolved] concept_drift of XAGUSD", "success")
    assert second["message"].splitlines() == [
        f"Ended Wed 2026-11-25 19:04 UTC. Last found: {DRIFT.sentence}",
        f"More: {DRIFT.command}",
        "Incident 1: concept_drift of XAGUSD, warning, since Wed 2026-11-25 14:04 UTC, for 5 h",
    ]


def test_what_comes_back_is_another_incident(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    for hours, finding in enumerate((DRIFT, good(DRIFT), DRIFT, good(DRIFT))):
        run(quick, settings, hours, finding)
    assert ["Incident 1:" in message["message"] for message in hook.received] == [True, True, False, False]
    assert [row.number for row in incidents(quick)] == [1, 2]


def test_what_one_run_found_is_one_message_the_gravest_first(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url, disk={"severity": "critical"})
    run(quick, settings, 0, DRIFT, DISK, STALE)
    [message] = hook.received
    assert (message["title"], message["type"]) == ("[critical] disk of data and 2 more", "failure")
    assert message["message"].startswith(f"{DISK.sentence}\nMore: df -h data\nIncident 2:")
    assert all(finding.sentence in message["message"] for finding in (DRIFT, STALE))
    run(quick, settings, 1, good(DRIFT), good(DISK), DISK, replace(DRIFT, subject="XAUUSD"))
    assert hook.titles[1:] == ["[warning] concept_drift of XAUUSD and 1 more"]
    assert f"Ended Wed 2026-11-25 15:04 UTC. Last found: {DRIFT.sentence}" in hook.received[1]["message"]


LATE = Finding("pipeline_late", "XAGUSD", Health.BAD, "No bar of XAGUSD has come for 2.0 session hours.", "more")


def test_incidents_of_one_cause_are_one_message_that_begins_with_it_and_one_end(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    run(quick, settings, 0, STALE, LATE, replace(STALE, subject="XAUUSD"))
    [message] = hook.received
    assert message["title"] == "[warning] pipeline_late of XAGUSD and 1 more"
    assert message["message"].splitlines()[:4] == [
        LATE.sentence,
        "More: more",
        "Incident 2: pipeline_late of XAGUSD, warning, since Wed 2026-11-25 14:04 UTC",
        f"With it, incident 1: data_stale: {STALE.sentence}",
    ]
    run(quick, settings, 1, good(STALE), good(LATE))
    assert hook.titles[1:] == ["[resolved] pipeline_late of XAGUSD"]


def test_a_pipeline_that_stands_still_is_one_trouble_with_the_monitor_that_it_runs(
    quick: Ledger, hook: Webhook
) -> None:
    settings = replace(alerts(hook.url), causes=construct(compose("alerts", []).alerts).causes)
    silent = Finding("monitor_silent", "XAGUSD", Health.BAD, "The monitor has not checked XAGUSD.", "monitor")
    run(quick, settings, 0, silent, LATE)
    [message] = hook.received
    assert message["title"] == "[warning] pipeline_late of XAGUSD"
    assert f"With it, incident 1: monitor_silent: {silent.sentence}" in message["message"]
    run(quick, settings, 1, good(silent), good(LATE))
    run(quick, settings, 2, silent, good(LATE))
    assert hook.titles[1:] == ["[resolved] pipeline_late of XAGUSD", "[warning] monitor_silent of XAGUSD"]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(STALE, LATE), (LATE, STALE)])
def test_what_comes_with_an_incident_that_was_told_is_told_only_if_it_outlasts_it(
    quick: Ledger, hook: Webhook, first: Finding, second: Finding
) -> None:
    """Each is found by a command of its own."""
    settings = alerts(hook.url)
    for hours, finding in enumerate((first, second, first, second, good(first))):
        run(quick, settings, hours, finding)
    assert hook.titles == [f"[warning] {first.rule} of XAGUSD"]  # its end waits: the other was not looked at since
    run(quick, settings, 5, good(second))
    assert hook.titles[1:] == [f"[resolved] {first.rule} of XAGUSD"]
    for hours, finding in enumerate((first, second, good(first), second, good(second)), start=6):
        run(quick, settings, hours, finding)
    assert hook.titles[2:] == [
        f"[warning] {first.rule} of XAGUSD",
        f"[warning] {second.rule} of XAGUSD and 1 more",  # that the first is over
        f"[resolved] {second.rule} of XAGUSD",
    ]


def test_what_a_silenced_or_untold_cause_brings_about_is_told(quick: Ledger, hook: Webhook) -> None:
    run(quick, alerts(hook.url, pipeline_late={"severity": "none"}), 0, LATE, STALE)
    assert hook.titles == ["[warning] data_stale of XAGUSD"]


def test_a_cause_that_is_only_unknown_keeps_nothing_bad_back(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url, pipeline_late={"unknown": True})
    record_findings(quick, [unknown(LATE)], AT, kept_from=AT)
    run(quick, settings, 0, unknown(LATE))
    for hours in (1, 2):
        run(quick, settings, hours, unknown(LATE), STALE)
    assert hook.titles == ["[warning] pipeline_late of XAGUSD", "[warning] data_stale of XAGUSD"]
    assert "With it, incident 1: pipeline_late: Nobody knows." in hook.received[1]["message"]


@pytest.mark.parametrize(
    ("causes", "said"),
    [
        ({"data_stale": "late"}, r"alerts\.causes between rules of .* got late"),
        ({"disk": "memory", "memory": "disk"}, "without a circle, got disk → memory → disk"),
    ],
)
def test_causes_that_are_none_are_said(causes: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_alerts(rules=dict.fromkeys(RULES, USUAL), causes=causes, receivers=None, timeout_s=1, waits=WAITS)


def test_incidents_that_ended_long_ago_are_counted_by_day_and_removed(ledger: Ledger) -> None:
    settings = alerts("json://127.0.0.1:9", timeout_s=0.1)
    for hours, finding in enumerate((DRIFT, good(DRIFT), DRIFT, good(DRIFT), DISK)):
        run(ledger, settings, hours, finding)
    run(ledger, settings, 30, good(DISK), DRIFT)
    assert deliveries(ledger)
    midnight = AT.replace(hour=0, minute=0) + 24 * HOUR
    assert [fold_incidents(ledger, before=midnight) for _ in range(2)] == [2, 0]
    with ledger.transaction() as connection:
        assert read_incident_days(connection) == [IncidentDay("concept_drift", "XAGUSD", "warning", "2026-11-25", 2, 2)]
    assert [(row.rule, row.ended_at is None) for row in incidents(ledger)] == [("disk", False), ("concept_drift", True)]
    assert fold_incidents(ledger, before=midnight + 24 * HOUR) == 1
    said = answer(ledger, settings, AlertRequest("list", 7, *[None] * 5), AT + 50 * HOUR)
    assert (
        "Counted by day, since they ended long ago:\n  from 2026-11-25 to 2026-11-26: concept_drift 2, disk 1" in said
    )


def test_a_flood_is_one_message_that_says_how_many_more() -> None:
    row = IncidentRow(7, "disk", "data", "warning", AT, AT, 1, 0, "Full.", "df", AT, None)
    message = write_message([Notification(row, "opened", None)] * (SHOWN + 5), ALERTS)
    assert message.body.count("Full.") == SHOWN
    assert message.body.endswith(f"And 5 more. All of them: {ALERTS}")


def test_each_receiver_gets_its_own_and_one_that_came_later_what_is_open(quick: Ledger, hook: Webhook) -> None:
    with open_webhook() as other:
        run(quick, alerts(hook.url), 0, DRIFT, DISK)
        run(quick, alerts(hook.url), 1, good(DISK))
        run(quick, alerts(hook.url, other.url), 2, DRIFT)
        assert (len(hook.received), other.titles) == (2, ["[warning] concept_drift of XAGUSD"])
        run(quick, alerts(other.url, hook.url), 3, good(DRIFT))  # in another order
        assert (len(hook.received), len(other.received)) == (3, 2)


def test_a_rule_opens_once_it_has_held_and_what_passes_is_forgotten(quick: Ledger) -> None:
    settings = alerts(concept_drift={"bad": 3, "hours": 3.5, "good": 2})
    opened = [bool(run(quick, settings, hours, DRIFT).opened) for hours in (0, 1, 2, 3, 3.5, 4)]
    assert opened == [False, False, False, False, True, False]
    assert not run(quick, settings, 5, good(DRIFT)).ended
    run(quick, settings, 6, DRIFT)  # it begins to count anew
    ended = [bool(run(quick, settings, hours, good(DRIFT)).ended) for hours in (7, 8)]
    assert ended == [False, True]
    run(quick, settings, 9, DRIFT)
    run(quick, settings, 10, good(DRIFT))
    with quick.transaction() as connection:
        assert read_active(connection) == []
    assert [row.number for row in incidents(quick)] == [1]


def test_runs_of_several_symbols_within_a_minute_are_one_look_at_their_machine(quick: Ledger) -> None:
    settings, soon = alerts(disk={"bad": 2, "good": 2}), 2 / 3600
    opened = [bool(run(quick, settings, hours, DISK).opened) for hours in (0, soon, 2 * soon, 1 / 6)]
    ended = [bool(run(quick, settings, hours, good(DISK)).ended) for hours in (1, 1 + soon, 1 + 1 / 6)]
    assert (opened, ended) == ([False, False, False, True], [False, False, True])


def test_what_is_unknown_ends_nothing_and_opens_only_by_its_rule(quick: Ledger) -> None:
    settings = alerts(disk={"unknown": True})
    assert not run(quick, settings, 0, unknown(DRIFT)).opened
    assert [row.rule for row in run(quick, settings, 1, DRIFT, unknown(DISK)).opened] == ["concept_drift", "disk"]
    assert not run(quick, settings, 2, unknown(DRIFT)).ended
    assert not run(quick, settings, 3).ended  # nor does a check that has not run
    assert len(run(quick, settings, 4, good(DRIFT), good(DISK)).ended) == 2


def test_nothing_stales_on_a_weekend(quick: Ledger) -> None:
    settings = alerts(data_stale={"outside_sessions": False})
    for hours in range(48):
        assert not run(quick, settings, hours, STALE, closed=("XAGUSD",)).opened
    assert run(quick, settings, 50, STALE).opened
    assert not run(quick, settings, 51, good(STALE), closed=("XAGUSD",)).ended
    assert run(quick, settings, 52, good(STALE)).ended


def test_the_worst_of_two_findings_about_one_thing_counts(quick: Ledger) -> None:
    [row] = run(quick, alerts(), 0, DISK, good(DISK), unknown(DISK)).opened
    assert row.sentence == DISK.sentence


def test_a_rule_that_is_told_to_nobody_is_in_the_ledger(
    quick: Ledger, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    for settings in (alerts(hook.url, disk={"severity": "none"}), alerts(disk={"severity": "none"})):
        run(quick, settings, 0, DISK)
    assert (hook.asked, caplog.messages) == (0, [])
    assert [row.severity for row in incidents(quick)] == [Severity.NONE]
    assert "1  not sent: disk of data, since" in ask(quick, "list")
    run(quick, alerts(), 1, DRIFT)
    assert caplog.messages[-1] == "Incidents without a receiver: 1; set LSTM_TS_ALERT_URLS"


def test_a_silence_puts_off_and_what_ends_meanwhile_is_not_told(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    silence(quick, 3)
    gold = replace(DRIFT, subject="XAUUSD")
    run(quick, settings, 0, DRIFT, gold)
    run(quick, settings, 1, DRIFT, good(gold))
    assert hook.asked == 0
    run(quick, settings, 3, DRIFT)
    assert hook.titles == ["[warning] concept_drift of XAGUSD"]


def test_a_silence_that_is_ended_early_is_over_and_one_of_a_subject_leaves_others(
    ledger: Ledger, hook: Webhook
) -> None:
    settings = alerts(hook.url)
    made = silence(ledger, 24, subject="XAGUSD")
    run(ledger, settings, 0, DRIFT, replace(DRIFT, subject="XAUUSD"), DISK)
    assert hook.titles == ["[warning] concept_drift of XAUUSD and 1 more"]
    with ledger.transaction() as connection:
        end_silence(connection, made, at=AT + HOUR, by="eve")
        assert read_silences(connection, at=AT + HOUR) == []
    run(ledger, settings, 1, DRIFT)
    assert hook.titles[1:] == ["[warning] concept_drift of XAGUSD"]


def test_the_end_of_what_was_told_is_told_once_the_silence_is_over(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    run(quick, settings, 0, DRIFT)
    silence(quick, 3)
    run(quick, settings, 1, good(DRIFT))
    assert len(hook.received) == 1
    run(quick, settings, 3)
    assert hook.titles[1:] == ["[resolved] concept_drift of XAGUSD"]


def test_a_message_that_is_refused_is_sent_again_by_the_next_run(
    ledger: Ledger, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    settings = alerts(hook.url)
    hook.status = 503
    told = run(ledger, settings, 0, DRIFT)
    [name] = name_receivers(settings.receivers)
    assert told.undelivered == (
        f"Expected the receiver {name} to accept a message about incident 1, got status 503; check that it is up and "
        f"LSTM_TS_ALERT_URLS is correct; a later run retries",
    )
    assert told.undelivered[0] in caplog.messages
    assert run(ledger, settings, 1, DRIFT).sent == 0
    hook.status = 200
    assert run(ledger, settings, 2, DRIFT).sent == 1
    assert run(ledger, settings, 3, DRIFT).sent == 0
    [row] = deliveries(ledger)
    assert (row.attempts, row.sent_at, row.trouble) == (3, AT + 2 * HOUR, None)
    assert "this may be a repeat" in hook.received[0]["message"]


@pytest.mark.slow
def test_a_receiver_that_takes_nothing_is_tried_ever_more_seldom_and_again_once_there_is_news(
    ledger: Ledger, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs every minute: tries after 1, 2, 4, … minutes, and no more than an hour apart."""
    settings = alerts(hook.url)
    hook.status = 503
    tried = []
    for minute in range(200):
        before = hook.asked
        told = run(ledger, settings, minute / 60, DRIFT)
        assert len(told.undelivered) == 1  # the exit code says so, whether or not it was tried
        tried += [minute] * (hook.asked > before)
    assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert caplog.messages[-1].endswith("a message about incident 1: a run after Wed 2026-11-25 18:07 UTC retries")
    hook.status = 200
    assert run(ledger, settings, 200 / 60, DRIFT).sent == 0
    assert run(ledger, settings, 201 / 60, DRIFT, DISK).sent == 1
    assert all(finding.sentence in hook.received[0]["message"] for finding in (DRIFT, DISK))


def test_a_clock_that_was_ahead_holds_back_no_incident_and_no_message(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url, disk={"bad": 2})
    hook.status = 503
    run(quick, settings, 1000, DRIFT, DISK)
    hook.status = 200
    told = run(quick, settings, 0, DRIFT, DISK)
    assert ([row.rule for row in told.opened], told.sent) == (["disk"], 1)
    assert all(finding.sentence in hook.received[0]["message"] for finding in (DRIFT, DISK))


def test_waits_that_are_none_are_said() -> None:
    for waits in ({"first_s": 60}, {"first_s": 2, "longest_s": 1}, {"first_s": -1, "longest_s": 1}):
        with pytest.raises(ConfigError, match=r"alerts\.waits with 0 <= first_s <= longest_s, got"):
            make_alerts(rules=dict.fromkeys(RULES, USUAL), causes={}, receivers=None, timeout_s=1, waits=waits)


def test_an_incident_that_ends_before_its_receiver_recovers_is_told_all_the_same(quick: Ledger, hook: Webhook) -> None:
    settings = alerts(hook.url)
    hook.status = 503
    run(quick, settings, 0, DRIFT)
    run(quick, settings, 1, good(DRIFT))
    hook.status = 200
    run(quick, settings, 2)
    run(quick, settings, 3)
    assert hook.titles == ["[resolved] concept_drift of XAGUSD"]


def test_one_receiver_that_hangs_or_is_away_keeps_no_message_from_another(quick: Ledger, hook: Webhook) -> None:
    with open_webhook() as silent:
        silent.answering.clear()
        urls = (silent.url, f"json://127.0.0.1:{free_port()}/", hook.url, "nonsense://host/path-secret")
        told = run(quick, alerts(*urls, timeout_s=60), 0, DRIFT)
    assert told.sent == len(hook.received) == 1
    assert sorted(sentence.split("got ")[1].split(";")[0] for sentence in told.undelivered) == [
        "no address that apprise knows",
        "no answer, or none that means yes",
        "no answer, or none that means yes",
    ]


def test_a_delivery_ends_at_its_deadline(quick: Ledger, hook: Webhook) -> None:
    hook.answering.clear()
    start = time.monotonic()
    told = run(quick, alerts(hook.url, timeout_s=0.1), 0, DRIFT)
    assert time.monotonic() - start < 3
    assert "got no answer within alerts.timeout_s=0.1 s; check" in told.undelivered[0]


def test_a_sender_that_ends_at_once_is_no_delivery(
    quick: Ledger, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    long = replace(DRIFT, sentence="x" * 1_000_000)
    told = run(quick, alerts(hook.url), 0, *(replace(long, subject=str(number)) for number in range(SHOWN)))
    assert "got an end of the process that sends, with 1; check" in told.undelivered[0]
    monkeypatch.undo()
    assert run(quick, alerts(hook.url), 1).sent == 1
    assert len(hook.received[0]["message"]) < SHOWN * 1500


def test_many_receivers_that_fail_at_the_same_moment_are_all_told_apart() -> None:
    urls = name_receivers([f"nonsense://host/{number}" for number in range(64)])
    message = write_message(
        [Notification(IncidentRow(7, "disk", "data", "warning", AT, AT, 1, 0, "", "", AT, None), "opened", None)],
        ALERTS,
    )
    for _ in range(2):
        told = dict(deliver({name: (url, message) for name, url in urls.items()}, 60))
        assert told == dict.fromkeys(urls, "no address that apprise knows")


def test_a_secret_is_in_no_log_error_or_ledger(
    quick: Ledger, hook: Webhook, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.status = 500
    settings = alerts(hook.url, "json://operator:hunter2@127.0.0.1:1/path-secret", "nope://hunter2/path-secret")
    with caplog.at_level(logging.DEBUG):
        told = run(quick, settings, 0, DRIFT)
    assert len(told.undelivered) == 3
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as other:
        assert len(deliveries(other)) == 3
    told_all = [
        caplog.text,
        repr(settings),
        repr(told),
        *capfd.readouterr(),
        str(name_receivers(settings.receivers).keys()),
    ]
    found = "".join(told_all).encode() + (tmp_path / "ledger.db").read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in found]


KILLED = f"""
import sys
from datetime import datetime
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.monitoring.alerts import RULES, make_alerts
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
rules = dict.fromkeys(RULES, {USUAL})
settings = make_alerts(rules=rules, causes={{}}, receivers=sys.argv[2], timeout_s=60, waits={WAITS})
finding = Finding("concept_drift", "XAGUSD", Health.BAD, "It errs more.", "more")
print("ready", flush=True)
report(Ledger(sys.argv[1]), settings, [finding], now=datetime.fromisoformat(sys.argv[3]))
"""


def test_a_run_killed_between_intent_and_answer_is_told_by_the_next_one_which_says_so(
    ledger: Ledger, ledger_url: str, hook: Webhook
) -> None:
    hook.answering.clear()
    command = python("-c", KILLED, ledger_url, hook.url, AT.isoformat())
    with child(command, stdout=subprocess.PIPE) as process:
        wait_for(lambda: hook.asked, process=process)
        process.send_signal(signal.SIGKILL)
        process.wait(WAIT_S)
    [intent] = deliveries(ledger)
    assert (intent.attempts, intent.sent_at, intent.trouble) == (1, None, None)
    hook.received.clear()
    hook.answering.set()
    settings = alerts(hook.url)
    for hours in range(1, 4):
        run(ledger, settings, hours, DRIFT)
    again = [message for message in hook.received if "this may be a repeat" in message["message"]]
    assert len(again) == 1
    assert again[0]["message"].count("Incident 1:") == 1


@pytest.mark.slow
def test_however_often_runs_are_killed_each_incident_is_told_and_its_end(
    quick: Ledger, tmp_path: Path, hook: Webhook
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    for kill in range(4):
        command = python("-c", KILLED, url, hook.url, (AT + kill * HOUR).isoformat())
        with child(command, stdout=subprocess.PIPE) as process:
            assert read_line(process) == "ready"
            time.sleep(0.4 * kill)
            process.kill()
            process.wait(WAIT_S)
    run(quick, alerts(hook.url), 7, DRIFT)
    run(quick, alerts(hook.url), 8, good(DRIFT))
    opened, ended = [
        [m for m in hook.received if m["title"].startswith(start)] for start in ("[warning]", "[resolved]")
    ]
    assert len(ended) == 1
    assert all("Incident 1:" in message["message"] for message in hook.received)
    assert all("this may be a repeat" in message["message"] for message in opened[1:])


@pytest.mark.slow
def test_a_ledger_that_is_away_is_told_once_and_its_return_too(tmp_path: Path, hook: Webhook) -> None:
    settings, folder = alerts(hook.url), tmp_path / "alerts"
    file = tmp_path / "ledger.db"

    def look(hours: float) -> None:
        with alert_on_outage(settings, folder, AT + hours * HOUR), closing(Ledger(f"sqlite:///{file}", make=False)):
            pass

    hook.status = 503
    for hours in range(4):
        with pytest.raises(LedgerError, match="got no file there"):
            look(hours)
        hook.status = 200
    assert hook.titles == ["[critical] the ledger is unreachable"]
    assert "got no file there; put it back" in hook.received[0]["message"]
    assert hook.received[0]["message"].endswith(f"More: {ALERTS}")
    Ledger(f"sqlite:///{file}").close()
    hook.status = 503
    look(4)
    hook.status = 200
    for hours in range(5, 8):
        look(hours)
    assert hook.titles[1:] == ["[resolved] the ledger is back"]
    assert hook.received[1]["message"] == (
        "The ledger is reachable again: it was unreachable from Wed 2026-11-25 14:04 UTC to Wed 2026-11-25 19:04 UTC."
    )
    file.unlink()
    with pytest.raises(LedgerError):
        look(9)
    assert len(hook.received) == 3
    assert not [secret for secret in SECRETS if secret in "".join(path.read_text() for path in folder.iterdir())]


def test_what_was_noted_of_an_outage_and_is_damaged_is_written_anew(tmp_path: Path, hook: Webhook) -> None:
    (tmp_path / "ledger_away.json").write_text('{"since": 3}')
    with pytest.raises(LedgerError), alert_on_outage(alerts(hook.url), tmp_path, AT):
        raise LedgerError("away")
    assert len(hook.received) == 1


def test_an_outage_that_cannot_be_noted_is_told(tmp_path: Path, hook: Webhook) -> None:
    (tmp_path / "alerts").touch()
    with pytest.raises(LedgerError), alert_on_outage(alerts(hook.url), tmp_path / "alerts", AT):
        raise LedgerError("away")
    assert hook.titles == ["[critical] the ledger is unreachable"]


def test_the_configured_rules_are_those_that_checks_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSTM_TS_ALERT_URLS", "json://127.0.0.1/a,b, mailto://user:pass@example.org\n slack://A/B/C")
    made = construct(compose("alerts", []).alerts)
    assert set(made.rules) == set(RULES)
    assert made.receivers == ("json://127.0.0.1/a,b", "mailto://user:pass@example.org", "slack://A/B/C")


@pytest.mark.parametrize(
    ("rule", "change", "said"),
    [
        ("disc", {}, r"got alerts\.rules\.disc; did you mean disk\?"),
        ("disk", {"severity": "loud"}, r"alerts\.rules\.disk\.severity as one of critical, warning, none, got loud"),
        ("disk", {"bad": 0}, r"alerts\.rules\.disk\.bad as a whole number >= 1, got 0"),
        ("disk", {"good": True}, r"alerts\.rules\.disk\.good as a whole number >= 1, got True"),
        ("disk", {"hours": -1}, r"alerts\.rules\.disk\.hours as a number >= 0, got -1"),
        ("disk", {"unknown": "no"}, r"alerts\.rules\.disk\.unknown as true or false, got no"),
        ("disk", {"for": 3}, r"alerts\.rules\.disk with severity, bad, hours, good, outside_sessions, unknown, got"),
    ],
)
def test_a_wrong_rule_is_said(rule: str, change: dict[str, object], said: str) -> None:
    rules = dict.fromkeys(RULES, USUAL) | {rule: USUAL | change}
    with pytest.raises(ConfigError, match=said):
        make_alerts(rules=rules, causes={}, receivers=None, timeout_s=1, waits=WAITS)


def test_a_rule_that_is_left_out_and_a_wrong_receiver_are_said_without_the_secret() -> None:
    rules = dict.fromkeys(RULES, USUAL)
    with pytest.raises(ConfigError, match=r"Expected alerts\.rules\.disk, got none; put it back, with severity: none"):
        make_alerts(
            rules={name: USUAL for name in RULES if name != "disk"}, causes={}, receivers=None, timeout_s=1, waits=WAITS
        )
    with pytest.raises(ConfigError, match=r"alerts\.timeout_s > 0, got 0"):
        make_alerts(rules=rules, causes={}, receivers=None, timeout_s=0, waits=WAITS)
    for receivers in ("hunter2", "json://host/a, hunter2", "json://host hunter2"):
        for given in (receivers, receivers.split()):
            with pytest.raises(ConfigError, match=r"as apprise URLs such as .* something else as number [12]") as said:
                make_alerts(rules=rules, causes={}, receivers=given, timeout_s=1, waits=WAITS)
            assert "hunter2" not in str(said.value)


def test_a_finding_of_no_rule_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="Expected a rule of"):
        find_changes([], [replace(DISK, rule="disc")], alerts().rules, now=AT, closed=())


def test_the_command_shows_what_is_open_told_silenced_and_over(
    tmp_path: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSTM_TS_ALERT_URLS", hook.url)
    [name] = name_receivers([hook.url])
    assert succeed("alerts", tmp_path) == [
        *("Open: nothing", "", "Ended in the last 7 days: nothing", "", "Silenced: nothing", ""),
        f"Receivers: {name}",
    ]
    said = succeed("alerts", tmp_path, "action=silence", "rule=disk", "until=4h", "reason=being moved")
    assert said[0].startswith("Alerts of disk of any subject are silenced until ")
    now = datetime.now(UTC)
    with closing(Ledger(f"sqlite:///{tmp_path}/outputs/registry/ledger.db")) as ledger:
        settings = alerts(hook.url)
        report(ledger, settings, [DRIFT, DISK, STALE], now=now - 2 * HOUR)
        report(ledger, settings, [good(STALE)], now=now - HOUR)
    lines = succeed("alerts", tmp_path)
    since = f"since {now - 2 * HOUR:%a %Y-%m-%d %H:%M} UTC"
    assert lines[1] == f"  1  warning: concept_drift of XAGUSD, {since}; opened sent to {name}"
    assert lines[2:4] == [f"      {DRIFT.sentence}", f"      More: {DRIFT.command}"]
    assert lines[4].startswith(f"  2  warning: disk of data, {since}; silenced until ")
    assert f"opened sent to {name}; resolved sent to {name}" in lines[9]
    assert lines[14].startswith("  disk of any subject until ") and lines[14].endswith(": being moved")


def ask(ledger: Ledger, action: str, **options: object) -> str:
    """What `python -m lstm_ts.alerts` does once its command line is read."""
    nothing = dict.fromkeys(("rule", "subject", "until", "number", "reason"))
    return answer(ledger, alerts(), AlertRequest(action=action, days=7, **nothing | options), AT)


def test_a_silence_of_a_subject_that_nothing_was_found_of_is_told(quick: Ledger) -> None:
    options = {"rule": "concept_drift", "until": "4h", "reason": "a test"}
    assert "UTC. So far concept_drift is known of no subject; if xagusd is mistyped, end" in ask(
        quick, "silence", subject="xagusd", **options
    )
    report(quick, alerts(), [DRIFT], now=AT)
    assert "known of XAGUSD; if XAGUSDD is mistyped" in ask(quick, "silence", subject="XAGUSDD", **options)
    assert ask(quick, "silence", subject="XAGUSD", **options).endswith("UTC.")


def test_skill_proves_nothing_more_while_the_market_is_closed(tmp_path: Path) -> None:
    cfg = compose("monitor", [f"paths.data={tmp_path}", f"paths.outputs={tmp_path}"])
    worse = replace(DRIFT, rule="performance_drop", subject="XAGUSD champion", health=Health.BAD)
    saturday = datetime(2026, 11, 28, 12, tzinfo=UTC)
    with closing(Ledger(cfg.registry.ledger)) as ledger:
        for now, opened in ((saturday, 0), (saturday + timedelta(days=2), 1)):
            report_findings(cfg, ledger, RunFindings([worse], [worse]), now)
            with ledger.transaction() as connection:
                assert len(read_active(connection)) == opened


def test_who_silences_ends_a_silence_or_closes_stands_in_the_audit(
    quick: Ledger, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        ask(quick, "silence", rule="disk", until="2d", reason="known")
        ask(quick, "unsilence", rule="disk")
        run(quick, alerts(hook.url), 0, DISK)
        ask(quick, "close", number=1, reason="moved")
    told = [vars(record) for record in caplog.records if hasattr(record, "event")]
    assert [(each["name"], each["event"], each["rule"]) for each in told] == [
        ("lstm_ts.audit", "alert_silenced", "disk"),
        ("lstm_ts.audit", "silence_ended", "disk"),
        ("lstm_ts.monitoring.incidents", "incident_opened", "disk"),
        ("lstm_ts.audit", "incident_closed", "disk"),
    ]
    assert (told[0]["until"], told[0]["reason"], told[3]["incident"]) == (AT + 48 * HOUR, "known", 1)


def test_silences_are_ended_and_what_nothing_looks_at_any_more_is_closed(quick: Ledger, hook: Webhook) -> None:
    for rule in ("disk", "memory"):
        ask(quick, "silence", rule=rule, subject="data", until="2d", reason="known")
    with pytest.raises(ConfigError, match="Expected a silence in force of rule=disk subject=outputs, got none; python"):
        ask(quick, "unsilence", rule="disk", subject="outputs")
    assert ask(quick, "unsilence", rule="disk") == "Alerts of disk of data are no longer silenced."
    with quick.transaction() as connection:
        [left] = read_silences(connection, at=AT)
    assert (left.rule, left.until, left.reason) == ("memory", AT + 48 * HOUR, "known")
    run(quick, alerts(hook.url), 0, DISK)
    assert hook.titles == ["[warning] disk of data"]
    ask(quick, "close", number=1, reason="it is sold")
    run(quick, alerts(hook.url), 1)
    assert hook.titles[1:] == ["[resolved] disk of data"]
    assert "(it is sold): 3 % of the disk" in hook.received[1]["message"]
    with pytest.raises(ConfigError, match="Expected the number of an open incident, got 1; python"):
        ask(quick, "close", number=1, reason="again")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"action": "mute"}, "Expected action=list, test, silence, unsilence or close, got mute"),
        ({"action": "test"}, "Expected a receiver of alerts, got none; set LSTM_TS_ALERT_URLS"),
        ({"action": "silence"}, "Expected rule=… for action=silence, got none"),
        ({"action": "close", "rule": "disk"}, "Expected no rule for action=close, got rule=disk"),
        ({"action": "silence", "rule": "disc"}, "got rule=disc; choose one of them"),
        ({"action": "silence", "rule": "disk", "until": "soon"}, "Expected a future time, got until=soon; write it"),
        ({"action": "silence", "rule": "disk", "until": "2015-01-01"}, "Expected a future time, got until=2015-01-01"),
        ({"action": "silence", "rule": "disk", "until": "1h", "reason": "a", "subject": " "}, "Expected subject=… for"),
        (
            {"action": "silence", "rule": "disk", "until": "1h", "reason": "a", "subject": True},
            "one subject .* got True",
        ),
        ({"action": "unsilence", "rule": "disk", "subject": OmegaConf.create(["a"])}, r"one subject .* got \['a'\]"),
        ({"action": "close", "number": True, "reason": "a"}, "Expected one number for action=close, got True"),
        ({"action": "silence", "rule": "disk", "until": "1h"}, "Expected reason=… for action=silence, got none"),
        ({"action": "close", "number": 3}, "Expected reason=… for action=close, got none"),
    ],
)
def test_what_cannot_be_done_is_said(quick: Ledger, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ask(quick, **options)


@pytest.mark.slow
@pytest.mark.parametrize("days", ["-1", "99999999999"])
def test_days_that_cannot_be_are_refused(tmp_path: Path, days: str) -> None:
    assert "Expected days from 0 to 36500" in mistake(run_command("alerts", tmp_path, f"days={days}"))


def test_the_command_tries_each_receiver_and_exits_as_they_answer(tmp_path: Path, hook: Webhook) -> None:
    done = run_process("alerts", tmp_path, "action=test", LSTM_TS_ALERT_URLS=hook.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{next(iter(name_receivers([hook.url])))} accepted the test message.\n"
    assert hook.titles == ["[test] lstm_ts"]
    hook.status = 403
    refused = run_process("alerts", tmp_path, "action=test", "hydra.verbose=true", LSTM_TS_ALERT_URLS=hook.url)
    assert refused.returncode == 2
    assert "got json-" in refused.stderr and ": status 403; check that it is up" in refused.stderr
    assert not [secret for secret in SECRETS if secret in refused.stdout + refused.stderr]


def test_a_wrong_rule_on_a_command_line_is_said(tmp_path: Path) -> None:
    said = mistake(run_command("alerts", tmp_path, "alerts.rules.disk.severity=loud"))
    assert said.startswith("Expected alerts.rules.disk.severity as one of critical, warning, none, got loud")
    said = mistake(run_command("alerts", tmp_path, "alerts.rules.disc.bad=2"))
    assert said.endswith("did you mean alerts.rules.disk.bad=1 (conf/alerts/default.yaml)?")
