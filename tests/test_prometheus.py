"""deploy/monitoring: by the checks of Prometheus and Alertmanager themselves, against a real scrape, and at work."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml
from processes import ROOT, WAIT_S, child, free_port, wait_for
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from serving import Server, running
from test_configs import compose
from watched import CLOCK, make_watched, opened
from webhook import Webhook, open_webhook

from lstm_ts.configuration.parts import construct
from lstm_ts.ledger.monitor_rows import MonitorState
from lstm_ts.ledger.monitor_tables import put_states
from lstm_ts.market.session import Session
from lstm_ts.monitoring.alerts import RULES, Alerts
from lstm_ts.monitoring.concept_drift import DriftState
from lstm_ts.monitoring.findings import Finding, Health
from lstm_ts.monitoring.incidents import report
from lstm_ts.monitoring.versions import DRIFT
from lstm_ts.monitoring.watcher import WatchLimits

FOLDER = ROOT / "deploy" / "monitoring"
OWN = {"up", "ALERTS"}  # of Prometheus
UNTOLD = {"regime"}  # severity: none
BESIDES = {"ledger_away", "registry_away", "challenger_guardrail"}  # told without a rule of the product
SOON_S, GENEROUS_S = 30, 60
WORDS = {"route", "le", "outcome", "over", "process"}  # labels whose values are ours
LOOKS = timedelta(minutes=2)  # between two
QUIET_S = 2  # longer than Alertmanager waits for others
INCIDENTS = {
    "LstmTsConceptDrift": "concept_drift",
    "LstmTsSkew": "skew",
    "LstmTsDataQuality": "data_quality",
    "LstmTsPipelineFailed": "pipeline_failed",
    "LstmTsDisk": "disk",
    "LstmTsMemory": "memory",
}


def program(name: str, package: str) -> str:
    """Its path, here or on PATH; without it the test is skipped, but in CI."""
    if found := shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"Expected {name}, got none; apt-get install {package}", pytrace=False)
    pytest.skip(f"{name} is not installed")


def check(*command: str | Path) -> str:
    """What a program says of files of ours, which it has to accept."""
    name, *arguments = command
    package = "prometheus" if name == "promtool" else "prometheus-alertmanager"
    done = subprocess.run(
        [program(str(name), package), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in read("rules.yml")["groups"] for rule in group["rules"]}


def product_rule(rule: dict[str, Any]) -> str | None:
    """The name of a rule of conf/alerts that an alert tells of."""
    named = re.search(r'lstm_ts_alerts_open\{rule="(\w+)"', rule["expr"])
    found: str | None = named[1] if named else rule["labels"].get("rule")
    return found


def dashboard_expressions() -> list[str]:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def names_in(text: str) -> set[str]:
    """Metrics of ours in an expression."""
    return set(re.findall(r"\blstm_ts_\w+", re.sub(r'"[^"]*"', "", text)))


def test_prometheus_and_alertmanager_accept_their_files() -> None:
    assert "rules found" in check("promtool", "check", "config", "prometheus.yml")
    check("amtool", "check-config", "alertmanager.yml")


@pytest.mark.slow
def test_each_alert_does_what_its_unit_tests_say() -> None:
    check("promtool", "test", "rules", "rules_test.yml")


def test_each_alert_is_fired_and_ended_by_a_unit_test() -> None:
    fired, quiet = set(), set()
    for test in read("rules_test.yml")["tests"]:
        for look in test["alert_rule_test"]:
            (fired if look.get("exp_alerts") else quiet).add(look["alertname"])
    assert fired == set(rules())
    assert quiet == fired - {"Watchdog"}


def test_each_rule_of_the_product_is_one_alert_as_grave_as_there() -> None:
    product: Alerts = construct(compose("alerts").alerts)
    told = {name: rule for name, rule in rules().items() if name != "Watchdog"}
    assert Counter(map(product_rule, told.values())) == Counter((set(RULES) - UNTOLD) | BESIDES)
    for name, rule in told.items():
        severity = rule.get("labels", {}).get("severity")
        assert (severity is None) == ("lstm_ts_alerts_open" in rule["expr"]), name  # those have the ledger's
        if severity and product_rule(rule) not in BESIDES:
            assert severity == product.rules[str(product_rule(rule))].severity, name


def test_the_limits_are_those_of_the_configuration() -> None:
    checks: WatchLimits = construct(compose("monitor").checks)
    service, silence, alerts = checks.service, checks.silence, rules()
    minutes = f"[{service.window_s / 60:g}m]"
    for name, parts in {
        "LstmTsServiceErrors": (minutes, f">= {service.min_requests}", f"> {service.max_failed:g} *"),
        "LstmTsServiceLatency": (
            minutes,
            f">= {service.min_requests}",
            f'le="{service.slow_s:g}"',
            f"(1 - {service.max_slow:g})",
        ),
        "LstmTsForecastLogDropping": (minutes,),
        "LstmTsFileHandles": (f"> {checks.machine.max_files_open:g}",),
        "LstmTsDataStale": (f">= {silence.ingest_hours:g} * 3600",),
        "LstmTsMonitorSilent": (f">= {silence.monitor_hours:g} * 3600",),
    }.items():
        assert [part for part in parts if part not in alerts[name]["expr"]] == []


def test_each_alert_has_a_sentence_and_a_command_that_exists() -> None:
    for name, rule in rules().items():
        assert set(rule["annotations"]) == {"summary", "runbook"}, name
        assert rule["annotations"]["summary"].endswith("."), name
        for module in re.findall(r"python -m ([\w.]+)", rule["annotations"]["runbook"]):
            assert find_spec(module), name


@pytest.mark.parametrize("name", ["LstmTsConceptDrift", "LstmTsDisk", "Watchdog"])
def test_the_watchdog_alone_goes_to_the_dead_mans_switch(name: str) -> None:
    command = ("config", "routes", "test", "--config.file=alertmanager.yml", f"alertname={name}", "subject=XAGUSD")
    assert check("amtool", *command).strip() == ("dead man's switch" if name == "Watchdog" else "people")


def test_inhibitions_name_alerts_that_there_are() -> None:
    for rule in read("alertmanager.yml")["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert re.fullmatch(r'alertname="(\w+)"', matcher)[1] in rules()  # type: ignore[index]


def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    exprs = [expr.replace("$__rate_interval", "1m") for expr in dashboard_expressions()]
    records = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    assert f"{len(exprs)} rules found" in check("promtool", "check", "rules", path)


def test_the_panels_have_titles_and_room() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.fixture(scope="module")
def folder(
    empty: Path, hourly_bars: pl.DataFrame, silver: Session, now: datetime, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A ledger with figures of every kind: what is missing for evidence of drift is a model that was trained."""
    folder = make_watched(tmp_path_factory.mktemp("watched"), empty, hourly_bars, silver, now)
    set_drift(folder, now, 10.0)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, now: datetime) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CLOCK, now.isoformat())
        with running(Server(folder, "traffic=shadow")) as server:
            wait_for(lambda: server.health().ready)
            yield server


def set_drift(folder: Path, now: datetime, evidence: float) -> None:
    """Have the ledger know the champion's evidence of drift, of which 2,000 is an alarm."""
    state = DriftState(600, (evidence,), threshold=2000.0, run_log=0.0, run_hours=0, run_excess=0.0)
    with opened(folder) as ledger, ledger.transaction() as connection:
        put_states(connection, [MonitorState("XAGUSD", 1, DRIFT, now, asdict(state))])


def tell(folder: Path, now: datetime, rule: str, health: Health) -> None:
    """Have the ledger know what was found."""
    alerts: Alerts = construct(compose("alerts").alerts)
    with opened(folder) as ledger:
        for look in range(2):  # memory takes two of each
            report(ledger, alerts, [Finding(rule, "it", health, "It is so.", "df -h")], now=now + look * LOOKS)


def parse(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def scraped(server: Server) -> set[str]:
    return {sample.name for sample in parse(server.client.get("/metrics").text)}


@pytest.mark.slow
def test_every_metric_is_in_a_scrape(server: Server, folder: Path, now: datetime) -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    queries = [each.get("definition", "") for each in board["templating"]["list"]]
    texts = [rule["expr"] for rule in rules().values()] + dashboard_expressions() + queries
    wanted = set().union(*map(names_in, texts))
    assert len(wanted) > 30
    tell(folder, now, "disk", Health.BAD)
    assert server.client.get("/forecast?symbol=XAGUSD").status_code == 200
    with suppress(AssertionError):
        wait_for(lambda: wanted <= scraped(server), SOON_S)
    assert wanted - scraped(server) == set()
    check_series(parse(server.client.get("/metrics").text))
    tell(folder, now, "disk", Health.GOOD)


def check_series(real: list[Sample]) -> None:
    """The series of the rules' unit tests are such as a service has: the same labels, and known words in them."""
    words = {(sample.name, *item) for sample in real for item in sample.labels.items()}
    labels = {(sample.name, frozenset(sample.labels)) for sample in real}
    series = {each["series"] for test in read("rules_test.yml")["tests"] for each in test["input_series"]}
    for sample in parse("".join(f"{text} 1\n" for text in sorted(series) if text.startswith("lstm_ts_"))):
        own = {name: value for name, value in sample.labels.items() if name not in ("job", "instance")}
        assert (sample.name, frozenset(own)) in labels, sample
        assert {(sample.name, name, own[name]) for name in WORDS & set(own)} <= words, sample


def copy_files(folder: Path, changes: dict[str, str]) -> None:
    """Copy the shipped files, each text of `changes` changed in all of them."""
    for path in FOLDER.glob("*.yml"):
        text = path.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / path.name).write_text(text)


@contextmanager
def started(folder: Path, name: str, *arguments: str) -> Iterator[httpx.Client]:
    """Prometheus or Alertmanager, with its file in the folder, once it is ready."""
    port = free_port()
    address = f"--web.listen-address=127.0.0.1:{port}"
    config = f"--config.file={name.removeprefix('prometheus-')}.yml"
    with (
        (folder / f"{name}.log").open("w") as log,
        child([program(name, name), config, address, *arguments], cwd=folder, stdout=log, stderr=log),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        wait_for(lambda: client.get("/-/ready").status_code == 200)
        yield client


@contextmanager
def alertmanager(folder: Path, webhook: Webhook) -> Iterator[httpx.Client]:
    copy_files(folder, {"127.0.0.1:9095": f"127.0.0.1:{webhook.port}", "group_interval: 1m": "group_interval: 3s"})
    name, storage = "prometheus-alertmanager", f"--storage.path={folder}/alerts"
    with started(folder, name, storage, "--cluster.listen-address=") as client:
        yield client


@contextmanager
def chain(folder: Path, server: Server, webhook: Webhook) -> Iterator[None]:
    """Prometheus and Alertmanager between a service, under two addresses, and a webhook; with the shipped files, but
    for the addresses, and for how long they wait to end and to send again."""
    service, storage = server.client.base_url.netloc.decode(), f"--storage.tsdb.path={folder}/series"
    with alertmanager(folder, webhook) as client:
        changes = {"127.0.0.1:9093": client.base_url.netloc.decode(), "keep_firing_for: 5m": "keep_firing_for: 3s"}
        changes["127.0.0.1:8000"] = f"{service}, {service.replace('127.0.0.1', 'localhost')}"
        own = folder / "prometheus"
        own.mkdir()
        copy_files(own, changes)
        with started(own, "prometheus", storage, "--rules.alert.resend-delay=5s"):
            yield


def told(webhook: Webhook, status: str) -> Counter[tuple[str, str]]:
    """How many messages there were of each incident."""
    labels = [message["groupLabels"] for message in webhook.received if message["status"] == status]
    return Counter((each["alertname"], each["subject"]) for each in labels if each["alertname"] != "Watchdog")


def figures(server: Server) -> list[str]:
    """What the service tells of incidents."""
    lines = server.client.get("/metrics").text.splitlines()
    return [line for line in lines if line.startswith("lstm_ts_alerts_open{")]


@pytest.mark.parametrize(
    ("wanted", "following"),
    [
        (
            {
                "a": ["ServiceNoChampion", "ForecastLogDropping", "DataStale"],
                "b": ["ServiceErrors", "LedgerAway", "PipelineLate"],
            },
            {"a": ["ServiceErrors", "LedgerAway", "PipelineLate", "MonitorSilent"], "b": ["MonitorSilent"]},
        ),
        ({"a": ["DataStale"], "b": ["MonitorSilent"]}, {"a": ["MonitorSilent", "PipelineLate"]}),
    ],
)
def test_what_follows_from_another_incident_is_not_told(
    tmp_path: Path, wanted: dict[str, list[str]], following: dict[str, list[str]]
) -> None:
    alerts = [
        {"labels": {"alertname": f"LstmTs{name}", "job": "lstm_ts", "instance": f"{where}:8000", "subject": where}}
        for found in (wanted, following)
        for where, names in found.items()
        for name in names
    ]
    expected = Counter((f"LstmTs{name}", where) for where, names in wanted.items() for name in names)
    with open_webhook() as webhook, alertmanager(tmp_path, webhook) as client:
        client.post("/api/v2/alerts", json=alerts).raise_for_status()
        wait_for(lambda: told(webhook, "firing") >= expected, GENEROUS_S)
        time.sleep(QUIET_S)
    assert told(webhook, "firing") == expected


@pytest.mark.slow
def test_what_is_wrong_reaches_a_webhook_once_and_so_does_its_end(
    server: Server, folder: Path, now: datetime, tmp_path: Path
) -> None:
    steps = {(alert, "it"): partial(tell, folder, now, rule) for alert, rule in INCIDENTS.items()}
    took_s = {}
    with open_webhook() as webhook, chain(tmp_path, server, webhook):
        wait_for(lambda: any(message["groupLabels"]["alertname"] == "Watchdog" for message in webhook.received))
        for number, (incident, step) in enumerate(steps.items()):
            time.sleep(number / 2)  # each at another moment between two scrapes
            before = figures(server)
            step(Health.BAD)
            wait_for(lambda before=before: figures(server) != before)
            since = time.monotonic()
            wait_for(lambda incident=incident: told(webhook, "firing")[incident], GENEROUS_S)
            took_s[incident] = time.monotonic() - since
        for step in steps.values():
            step(Health.GOOD)
        wait_for(lambda: set(told(webhook, "resolved")) >= set(steps), 2 * GENEROUS_S)
    firing, resolved = told(webhook, "firing"), told(webhook, "resolved")
    assert set(firing.values()) == {1}, firing
    assert resolved == dict.fromkeys(steps, 1)
    message = next(each for each in webhook.received if each["groupLabels"]["alertname"] == "LstmTsDisk")
    assert [each["annotations"]["summary"] for each in message["alerts"]] == ["The disk of it is nearly full."]
    print("Seconds from /metrics to the webhook:", ", ".join(f"{name} {s:.1f}" for (name, _), s in took_s.items()))
