"""deploy/ and .github/: by deploy/check, which finds planted faults, and against what the code takes and tells."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT
from test_configs import compose
from test_prometheus import program

from lstm_ts.commands import COMMANDS
from lstm_ts.monitor import ACTIONS
from serve import metrics

DEPLOY = ROOT / "deploy"
CHECK = DEPLOY / "check"
FILES = ("deploy", ".github")
LIMIT_S = 100
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


class Well(BaseHTTPRequestHandler):
    """A service that is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", CHECK, folder], capture_output=True, text=True, timeout=LIMIT_S)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for tool in ("hadolint", "check-jsonschema", "kubernetes-validate", "kubectl", "zizmor"):
        if not (ROOT / ".venv/bin" / tool).exists():
            program(tool, "nothing: make install")
    for name in FILES:
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_what_stands_passes(copy: Path) -> None:
    done = check(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "good", "bad", "found"),
    [
        ("deploy/Dockerfile", "USER 10001:10001", "USER root", "DL3002"),
        ("deploy/Dockerfile", "COPY deploy/slim /opt/", "ADD deploy/slim /opt/", "DL3020"),
        ("deploy/compose.yaml", "mem_limit: 1g", "memory_limit: 1g", "memory_limit"),
        ("deploy/compose.yaml", "image: postgres:17.5", "image: postgres:latest", "postgres image"),
        ("deploy/compose.yaml", "read_only: true", "read_only: false", "may write to its root"),
        ("deploy/compose.yaml", "{file: ./nginx/include.conf}", '{content: "include /tmp/lstm_ts.conf;"}',
         "nginx has a read-only root, into which nginx of configs cannot be written"),
        ("deploy/compose.yaml", '"127.0.0.1:5000:5000"', '"5000:5000"', "mlflow is open to others"),
        (".github/workflows/ci.yml", "@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1", "@v6", "unpinned-uses"),
        (".github/workflows/ci.yml", "timeout-minutes: 20", "timeout_minutes: 20", "timeout_minutes"),
        (".github/workflows/ci.yml", "contents: read", "contents: write", "excessive-permissions"),
        (".github/workflows/deploy.yml", 'staging "$VERSION"', "${{ inputs.version }}", "template-injection"),
        (".github/dependabot.yml", "interval: weekly", "interval: sometimes", "sometimes"),
        ("deploy/k8s/serve/scaling.yaml", "autoscaling/v2", "autoscaling/v2beta1", "autoscaling/v2beta1"),
        ("deploy/k8s/serve/scaling.yaml", "lstm_ts_worker_busy", "lstm_ts_busy", "which no adapter makes"),
        ("deploy/k8s/serve/deployment.yaml", "maxSurge: 1", "maxSurges: 1", "maxSurges"),
        ("deploy/k8s/serve/deployment.yaml", "cpu: 250m, memory: 512Mi", "cpu: 250m", "no requests of memory"),
        ("deploy/k8s/serve/deployment.yaml", "valueFrom: {secretKeyRef: {name: lstm-ts, key: api-keys}}", "value: abc",
         "holds LSTM_TS_API_KEYS"),
        ("deploy/k8s/restricted/deployment.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        ("deploy/k8s/restricted/cronjob.yaml", "runAsUser: 10001", "runAsUser: 0", "may run as root"),
        ("deploy/k8s/restricted/cronjob.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
         "may write to its root"),
        ("deploy/k8s/restricted/cronjob.yaml", "drop: [ALL]", "drop: [NET_RAW]", "keeps rights"),
        ("deploy/k8s/base/storage.yaml", "metadata: {name: lstm-ts}", "metadata: {name: bars}", "claims lstm-ts"),
        ("deploy/k8s/base/dashboard.yaml", "selector: {app: dashboard}", "selector: {app: pages}", "selects no pod"),
        ("deploy/k8s/base/ingress.yaml", "name: dashboard, port: {name: http}", "name: dashboard, port: {name: web}",
         "leads nowhere"),
        ("deploy/k8s/base/kustomization.yaml", "- network.yaml", "- networks.yaml", "networks.yaml"),
        ("deploy/k8s/overlays/canary/route.yaml", "weight: 95", "weight: 90", "weights are not 100"),
        ("deploy/k8s/overlays/canary/new/kustomization.yaml", "newTag: 0.0.1", "newTag: latest", "is not pinned"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(path: str, good: str, bad: str, found: str, copy: Path) -> None:
    text = (copy / path).read_text()
    assert good in text
    (copy / path).write_text(text.replace(good, bad))
    done = check(copy)
    assert done.returncode != 0
    assert found in done.stdout + done.stderr


POD = "spec.template.spec"
MAIN = f"{POD}.containers.0"
JOB = "spec.jobTemplate.spec.template.spec.containers.0"


@pytest.fixture(scope="module")
def production() -> dict[str, Any]:
    """Its objects by kind and name, beside compose.yaml."""
    command = [program("kubectl", "nothing: make install"), "kustomize", DEPLOY / "k8s/overlays/canary"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    objects = {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(done.stdout)}
    command[-1] = DEPLOY / "k8s/overlays/production"
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    return objects | {f"{each['kind']} {each['metadata']['name']}": each for each in yaml.safe_load_all(done.stdout)}


@pytest.mark.parametrize(
    ("what", "path", "value", "found"),
    [
        ("Deployment serve", f"{MAIN}.securityContext.runAsUser", 0, "may run as root"),
        ("Deployment serve", f"{MAIN}.securityContext.runAsNonRoot", False, "may run as root"),
        ("Deployment serve", f"{MAIN}.securityContext.privileged", True, "sets privileged"),
        ("Deployment serve", f"{MAIN}.securityContext.capabilities.add", ["NET_ADMIN"], "keeps rights"),
        ("Deployment serve", f"{MAIN}.securityContext.seccompProfile", {"type": "Unconfined"}, "no seccomp profile"),
        ("Deployment serve", f"{POD}.securityContext.seccompProfile", None, "no seccomp profile"),
        ("Deployment serve", f"{POD}.securityContext.runAsGroup", 0, "may run as root, by runAsGroup"),
        ("Deployment serve", f"{POD}.initContainers", [{"name": "a", "image": "busybox"}], "busybox is not pinned"),
        ("Deployment serve", f"{POD}.hostNetwork", True, "has hostNetwork"),
        ("CronJob lstm-ts-xagusd-watch", "spec.jobTemplate.spec.template.spec.hostPID", True, "has hostPID"),
        ("Deployment serve", f"{POD}.volumes.0", {"name": "tmp", "hostPath": {"path": "/"}}, "tmp of another kind"),
        ("Deployment serve", f"{POD}.volumes.0.name", "temp", "mounts tmp"),
        ("Deployment serve", f"{POD}.terminationGracePeriodSeconds", 5, "killed before its preStop ends"),
        ("Deployment serve", f"{MAIN}.readinessProbe", None, "has no readinessProbe"),
        ("Deployment serve", f"{MAIN}.livenessProbe.tcpSocket.port", 8000, "livenessProbe at 8000"),
        ("Deployment serve", f"{MAIN}.ports.0.hostPort", 80, "has a port of its node"),
        ("Deployment serve", f"{MAIN}.envFrom.0.configMapRef.name", "other", "settings of other, which is not there"),
        ("Deployment serve", f"{MAIN}.args.0", "$(MODE)", "is given MODE, which is set nowhere"),
        ("Deployment mlflow", f"{MAIN}.args.0", "postgresql://a:b@c/d", "holds a secret in its arguments"),
        ("CronJob lstm-ts-xagusd-watch", f"{JOB}.args.0", "PGPASSWORD=abc true", "holds a secret in its arguments"),
        ("Deployment serve", "spec.selector.matchLabels.app", "other", "selects other pods than its own"),
        ("ConfigMap lstm-ts", "data.PGPASSWORD", "abc", "holds PGPASSWORD"),
        ("ConfigMap lstm-ts", "data.LSTM_TS_LEDGER", "postgresql://a:b@c/d", "holds LSTM_TS_LEDGER"),
        ("Service serve", "spec.ports.0.targetPort", "web", "leads to web, which is no port of its pods"),
        ("Service serve", "spec.type", "LoadBalancer", "is open to others than the cluster"),
        ("HorizontalPodAutoscaler serve", "spec.scaleTargetRef.name", "service", "scales service"),
        ("HorizontalPodAutoscaler serve", "spec.minReplicas", 20, "more replicas at least than at most"),
        ("PodDisruptionBudget serve", "spec.selector.matchLabels.app", "other", "selects no pod"),
        ("PodDisruptionBudget serve", "spec.selector", None, "selects no pod"),
        ("PodDisruptionBudget serve", "spec.selector.matchExpressions", [{"key": "a", "operator": "Exists"}],
         "PodDisruptionBudget serve: selects by matchExpressions"),
        ("NetworkPolicy deny-all-but-dns", "spec.podSelector", {"matchLabels": {"app": "job"}}, "closes all pods"),
        ("NetworkPolicy deny-all-but-dns", "spec.egress.0", {}, "leaves all ports open"),
        ("NetworkPolicy to-serve", "spec.ingress.0.from", None, "lets everyone in"),
        ("NetworkPolicy to-serve", "spec.ingress.0.from.0", {"ipBlock": {"cidr": "0.0.0.0/0"}}, "lets everyone in"),
        ("NetworkPolicy to-serve", "spec.podSelector.matchLabels.app", "server", "selects no pod"),
        ("Ingress serve", "spec.rules.0.http.paths.0.path", "/metrics", "internal path by Exact /metrics"),
        ("Ingress serve", "spec.rules.0.http.paths.0.pathType", "Prefix", "internal path by Prefix /predict"),
        ("Ingress serve", "spec.defaultBackend", {"service": {"name": "serve"}}, "has a defaultBackend"),
        ("HTTPRoute serve", "spec.rules.0.matches.0.path.value", "/metrics", "publishes an internal path"),
        ("Deployment serve", f"{MAIN}.env.1.name", "LSTM_TS_API_KEY", "has no LSTM_TS_API_KEYS of a secret"),
        ("Deployment dashboard", f"{MAIN}.env.1.valueFrom.secretKeyRef.key", "password", "reads password, which"),
        ("NetworkPolicy to-serve", "spec.ingress.0.from.1.namespaceSelector", {"matchLabels": {}}, "lets everyone in"),
        ("NetworkPolicy to-serve", "spec.ingress.0.from.1.namespaceSelector", {"matchExpressions": []}, "everyone in"),
        ("NetworkPolicy to-serve", "spec.ingress.0.ports.0.port", 8081, "opens 8081, which is no port of its pods"),
        ("NetworkPolicy to-serve", "spec.ingress.0.ports.0", {"protocol": "TCP"}, "leaves all ports open"),
        ("NetworkPolicy to-serve", "spec.ingress.0.from.0.podSelector.matchExpressions.0.values", ["jobs"],
         "a peer that selects no pod"),
        ("NetworkPolicy from-inside", "spec.egress.0.ports.0.port", 8081, "opens 8081, which is no port of its pods"),
        ("NetworkPolicy from-inside", "spec.egress.1.to.0.podSelector.matchLabels.app", "flow", "selects no pod"),
        ("Ingress serve", "spec.rules.0.http.paths.0.backend.service.name", "mlflow", "publishes mlflow"),
        ("Ingress serve", "metadata.annotations", {"nginx.ingress.kubernetes.io/rewrite-target": "/reload"},
         "changes paths by nginx.ingress.kubernetes.io/rewrite-target"),
        ("HTTPRoute serve", "spec.rules.0.filters", [{"type": "URLRewrite"}], "changes requests by filters"),
        ("HTTPRoute serve", "spec.rules.0.backendRefs.0.name", "mlflow", "publishes mlflow"),
        ("PodDisruptionBudget serve", "spec.minAvailable", 2, "keeps all replicas"),
        ("Deployment serve", f"{MAIN}.volumeMounts.0.mountPath", "/temp", "mounts nothing at /tmp"),
        ("CronJob lstm-ts-xagusd-watch", f"{JOB}.volumeMounts", None, "mounts nothing at /srv/lstm_ts"),
        ("Deployment serve", f"{MAIN}.volumeMounts.1.readOnly", None, "may write to /srv/lstm_ts"),
        ("ConfigMap lstm-ts", "data.LSTM_TS_SERVICE", "http://serve:8000", "leads to serve:8000, which is no port"),
        ("CronJob lstm-ts-xagusd-watch", f"{JOB}.args.0", "service=http://service:8080", "leads to service:8080"),
        ("PersistentVolumeClaim lstm-ts", "spec.accessModes", ["ReadWriteOnce"], "is for one node"),
        ("compose", "services.postgres.restart", None, "postgres does not begin again"),
        ("Service serve", "kind", "StatefulSet", "is of a kind that nothing here checks"),
        ("compose", "services.serve.image", "serve:${VERSION:-latest}", "serve image"),
        ("compose", "services.serve.depends_on.redis", {"condition": "service_started"}, "needs redis, which is not"),
        ("compose", "services.mlflow.healthcheck", None, "health of mlflow, which has no healthcheck"),
        ("compose", "services.serve.networks.0", "within", "serve is in the network within, which is not defined"),
        ("compose", "services.serve.volumes.0", "bars:/srv", "serve mounts bars, which is neither"),
        ("compose", "services.serve.volumes.0", "/var/run/docker.sock:/var/run/docker.sock", "docker.sock, which is"),
        ("compose", "services.serve.environment.LSTM_TS_API_KEYS", "abc", "serve holds LSTM_TS_API_KEYS"),
        ("compose", "services.grafana.environment.GF_SECURITY_ADMIN_PASSWORD", "${A:-abc}", "grafana holds GF_"),
        ("compose", "services.mlflow.command.4", "--uri=postgresql://a:b@c/d", "holds a secret in its command"),
        ("compose", "services.serve.cap_add", ["SYS_ADMIN"], "serve has cap_add"),
        ("compose", "services.serve.network_mode", "host", "serve has network_mode"),
        ("compose", "services.serve.pid", "host", "serve has pid"),
        ("compose", "services.postgres.security_opt", None, "postgres may gain rights"),
        ("compose", "services.grafana.ports.0", "127.0.0.1:5000:3000", "5000 is the port of two services"),
        ("compose", "services.grafana.ports.0", {"target": 3000, "published": 5000}, "5000 is the port of two"),
        ("compose", "services.nginx.configs.0.source", "proxy", "has proxy of configs, which is not there"),
        ("compose", "services.serve.environment.LSTM_TS_API_KEYS", None, "has no LSTM_TS_API_KEYS"),
        ("compose", "services.serve.use_api_socket", True, "serve has use_api_socket"),
        ("compose", "volumes.lstm_ts", {"driver_opts": {"o": "bind", "device": "/"}}, "volumes has driver_opts"),
        ("compose", "configs.nginx.file", "/etc/shadow", "has nginx of configs, which is no file of deploy/"),
        ("compose", "configs.nginx.file", "./../shadow", "has nginx of configs, which is no file of deploy/"),
        ("compose", "networks.inside", {}, "postgres is in a network that is not internal"),
        ("compose", "services.postgres.networks", ["inside", "outside"], "postgres is in a network that is not"),
        ("compose", "services.postgres.networks", None, "postgres is in a network that is not internal"),
    ],
)  # fmt: skip
def test_a_fault_that_no_schema_knows_is_found(
    what: str, path: str, value: Any, found: str, production: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DEPLOY)
    policy, tree = import_module("policy"), deepcopy({"compose": COMPOSE, **production})
    plant(tree[what], path, value)
    composed = tree.pop("compose")
    objects = {(each["kind"], each["metadata"]["name"]): each for each in tree.values()}
    assert any(found in fault for fault in (*policy.check_kubernetes(objects), *policy.check_compose(composed)))


@pytest.mark.parametrize(
    ("good", "bad", "found"),
    [
        ("USER 10001:10001", "", "serve runs as root"),
        ("USER 10001:10001", "USER lstm_ts", "jobs runs as lstm_ts"),
        ("ENV LSTM_TS_HOST", "ENV LSTM_TS_API_KEYS=abc LSTM_TS_HOST", "holds LSTM_TS_API_KEYS"),
        ("ARG REVISION", "ARG API_KEY=abc\nARG REVISION", "holds API_KEY"),
        ("ARG BASE", "ARG BASE", None),
    ],
)
def test_a_fault_of_the_dockerfile_is_found(
    good: str, bad: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(DEPLOY)
    text = (DEPLOY / "Dockerfile").read_text()
    faults = import_module("policy").check("dockerfile", text.replace(good, bad))
    assert good in text and any(found in fault for fault in faults) if found else not faults


def test_a_word_that_only_begins_as_that_for_a_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DEPLOY)
    in_clear = import_module("compose_policy").in_clear
    assert not list(in_clear({"LSTM_TS_PASSIVE_WAIT": "1", "KEYBOARD": "us", "OPTIONS": "--tokenizer=x"}))
    held = {"DB_PASS": "a", "APIKEY": "a", "OPTIONS": "--token=x", "MORE": "PGPASSWORD=a", "URL": "api_key_id: a"}
    assert [fault.split()[1] for fault in in_clear(held)] == list(held)


def plant(tree: Any, path: str, value: Any) -> None:
    """value   None: nothing"""
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        tree = tree[key]
    tree[last] = value
    if value is None:
        del tree[last]


def commands() -> list[list[str]]:
    """Of containers that begin with a command of ours, as composed by default."""
    composed = [service.get("command", []) for service in COMPOSE["services"].values()]
    pods = [
        container.get("args", [])
        for path in sorted((DEPLOY / "k8s").rglob("*.yaml"))
        for each in yaml.safe_load_all(path.read_text())
        if each and each.get("kind") == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    ]
    return [command for command in (*composed, *pods) if command and command[0] in COMMANDS]


def test_each_container_begins_with_a_command_as_it_is_taken() -> None:
    settings = yaml.safe_load((DEPLOY / "k8s/base/kustomization.yaml").read_text())["configMapGenerator"][0]["literals"]
    values = dict(each.split("=", 1) for each in settings)
    begun = commands()
    assert sorted(command[0] for command in begun) == ["dashboard", "dashboard", "pipeline", "serve", "serve"]
    looped = [
        found
        for service in COMPOSE["services"].values()
        for found in re.findall(r"python -m lstm_ts\.(\w+) -m ([^;]+)", " ".join(service.get("command", [])))
    ]
    assert [name for name, _ in looped] == ["monitor"]
    for name, *overrides in (*begun, *([name, *text.split()] for name, text in looped)):
        defaults = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", each) for each in overrides]
        cfg = compose(name, *(re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], each) for each in defaults))
        assert name != "monitor" or cfg.action in ACTIONS


def test_each_variable_of_ours_is_one_that_is_read() -> None:
    given = {
        name
        for path in (*DEPLOY.rglob("*.yaml"), DEPLOY / "Dockerfile")
        for name in re.findall(r"\b(?:LSTM_TS_[A-Z_]+|MLFLOW_[A-Z_]+)\b", path.read_text())
    }
    code = "".join(path.read_text() for path in (ROOT / "lstm_ts").rglob("*") if path.suffix in (".py", ".yaml"))
    assert {name for name in given if name not in code} == {"LSTM_TS_VERSION"}  # compose's own


def test_a_release_asks_pods_at_a_port_that_they_have() -> None:
    deployment = yaml.safe_load((DEPLOY / "k8s/serve/deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    port = container["ports"][0]["containerPort"]
    assert f"\nPORT = {port} " in (DEPLOY / "cluster_place.py").read_text()
    assert f"\nENV LSTM_TS_HOST=0.0.0.0 LSTM_TS_PORT={port}\nEXPOSE {port}\n" in (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("file", ["base/ingress.yaml", "overlays/canary/route.yaml"])
def test_a_smoke_test_asks_only_what_comes_through_from_outside(file: str) -> None:
    asked = set(re.findall(r'"(/\w[\w.]*)', (DEPLOY / "smoke").read_text()))
    routed = re.findall(r"(?:path: |value: )(/\w[\w.]*)", (DEPLOY / "k8s" / file).read_text())
    assert asked == set(routed) == {"/health", "/info", "/forecast", "/predict"}


CHECKS = re.findall(r"HEALTHCHECK .*?CMD (\[.*?\])\n", (DEPLOY / "Dockerfile").read_text(), re.DOTALL)
HEALTH_CHECKS = [*map(json.loads, CHECKS), COMPOSE["services"]["mlflow"]["healthcheck"]["test"][1:]]


@pytest.mark.parametrize("variable", ["AIP_HTTP_PORT", "LSTM_TS_PORT"])
@pytest.mark.parametrize("check", HEALTH_CHECKS, ids=["jobs", "dashboard", "serve", "mlflow"])
def test_a_health_check_asks_where_the_service_listens_and_no_proxy(check: list[str], variable: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Well) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_address[1])
        environment = os.environ | {"http_proxy": "http://127.0.0.1:1", "LSTM_TS_PORT": "1", variable: port}
        command = [re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", word) for word in check[1:]]
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, timeout=LIMIT_S)
        server.shutdown()
    assert done.returncode == 0, done.stderr


def test_prometheus_in_a_cluster_knows_the_service_by_the_name_that_the_rules_have(tmp_path: Path) -> None:
    text = (DEPLOY / "monitoring/kubernetes.yml").read_text()
    found, here = "kubernetes_sd_configs:\n      - role: pod", "static_configs:\n      - targets: [127.0.0.1:1]"
    assert found in text, "Debian's promtool knows no cluster"
    (file := tmp_path / "prometheus.yml").write_text(text.replace(found, here))
    tool = program("promtool", "prometheus")
    subprocess.run([tool, "check", "config", file], check=True, capture_output=True, timeout=LIMIT_S)
    (scrape,) = yaml.safe_load(text)["scrape_configs"]
    assert f'up{{job="{scrape["job_name"]}"}}' in (DEPLOY / "monitoring/rules.yml").read_text()
    kept = {rule["regex"] for rule in scrape["relabel_configs"] if rule.get("action") == "keep"}
    deployment = yaml.safe_load((DEPLOY / "k8s/serve/deployment.yaml").read_text())
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert kept == {"lstm-ts;lstm-ts;serve", port["name"]}
    assert "annotations" not in deployment["spec"]["template"].get("metadata", {}), "which another job would scrape too"


def test_new_code_gets_a_verdict_before_it_takes_all_requests() -> None:
    for name, job in yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())["jobs"].items():
        runs = [step.get("run", "") for step in job["steps"]]
        actions = [next(number for number, run in enumerate(runs) if run.startswith(f"deploy/release {action} {name}"))
                   for action in ("start", "verdict", "promote")]  # fmt: skip
        assert actions == sorted(actions)
        assert any("cosign verify" in run for run in runs[: actions[0]]), "its tag may have moved since the job before"
        assert runs[actions[-1] + 1].startswith("deploy/smoke")
        started = "(steps.start.outcome == 'success' || steps.start.outcome == 'cancelled')"  # else it cleaned up
        assert runs[-1] == f"deploy/release back {name}"
        assert job["steps"][-1]["if"] == f"(failure() || cancelled()) && {started}"


@pytest.mark.parametrize(
    ("file", "job", "needs"),
    [("deploy", "production", "staging"), ("release", "image", ["version", "ci"]),
     ("release", "release", ["version", "image"])],
)  # fmt: skip
def test_a_job_waits_for_what_may_refuse(file: str, job: str, needs: Any) -> None:
    assert yaml.safe_load((ROOT / f".github/workflows/{file}.yml").read_text())["jobs"][job]["needs"] == needs


def test_workflows_run_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    texts = [path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")]
    asked = [name for text in texts for names in re.findall(r"\.ci/run (.+)", text) for name in names.split()]
    assert asked and {*asked} <= targets


def test_each_slow_test_is_in_one_part() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["slow"]
    patterns = " ".join(job["strategy"]["matrix"]["tests"]).split()
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert sorted(found) == sorted(ROOT.glob("tests/test_*.py"))


def test_a_change_of_what_an_image_is_built_by_builds_it() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/image.yml").read_text())
    copied = set(re.findall(r"COPY (deploy/\S+|requirements|pyproject\.toml)", (DEPLOY / "Dockerfile").read_text()))
    assert copied <= {path.removesuffix("/**") for path in workflow[True]["pull_request"]["paths"]}  # True: `on`


def test_images_hold_what_the_locks_name_by_its_hash_and_pytorch_and_our_wheel() -> None:
    installs = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if "${INSTALL} " in line]
    for line in installs:
        assert "--no-deps" in line
        assert "--require-hashes" in line or '"${TORCH}"' in line or "/wheel/*.whl" in line
    assert len(installs) == 7


def test_the_images_have_the_torch_of_the_lock() -> None:
    (pinned,) = set(re.findall(r"torch==[\d.]+", (ROOT / "Makefile").read_text()))
    assert f"ARG TORCH={pinned}\n" in (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("components", "ports"),
    [((), {443, 5000, 5432, 8080}), (("mail",), {465, 587}), (("broker",), {4001, 4002, 4003, 4004, 7496, 7497})],
)
def test_an_overlay_says_what_jobs_reach_outside(components: tuple[str, ...], ports: set[int], copy: Path) -> None:
    overlay = copy / "deploy/k8s/overlays/staging"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text() + f"components: {[f'../../{name}' for name in components]}\n")
    done = subprocess.run(
        [program("kubectl", "nothing: make install"), "kustomize", overlay], capture_output=True, text=True, check=True
    )
    (copy / "rendered.yaml").write_text(done.stdout)
    checks = [ROOT / ".venv/bin/kubernetes-validate", "--strict", copy / "rendered.yaml"]
    assert subprocess.run(checks, capture_output=True, timeout=LIMIT_S).returncode == 0
    policies = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "NetworkPolicy"]
    of_jobs = [
        port
        for each in policies
        if each["spec"]["podSelector"].get("matchLabels", {}).items() <= {"app": "job", "part-of": "lstm-ts"}.items()
        for rule in each["spec"].get("egress", [])
        for port in rule["ports"]
    ]
    reached = {number for port in of_jobs for number in range(port["port"], port.get("endPort", port["port"]) + 1)}
    assert reached >= {443, 5000, 5432, 8080} | ports
    assert reached <= {443, 5000, 5432, 8080, 53} | ports


def test_the_service_scales_by_metrics_that_it_has() -> None:
    (rule,) = yaml.safe_load((DEPLOY / "monitoring/prometheus-adapter.yaml").read_text())["rules"]["custom"]
    told = {sample.name for metric in metrics.PART_SECONDS.collect() for sample in metric.samples}
    told |= {family.name for family in metrics.LoadedWorkers([], 1).collect()}
    metrics.PART_SECONDS.labels("queue")
    told |= {sample.name for metric in metrics.PART_SECONDS.collect() for sample in metric.samples}
    assert set(re.findall(r"\blstm_ts_\w+", rule["metricsQuery"] + rule["seriesQuery"])) <= told
    assert "queue" in metrics.PARTS


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "nginx"])
def test_compose_leaves_no_address_of_this_machine_in_the_files_it_changes(name: str, tmp_path: Path) -> None:
    command = COMPOSE["services"][name]["command"][0].replace("${ALERT_WEBHOOK:-http://127.0.0.1:9095}", "http://hook")
    for folder in ("/etc/lstm_ts.conf", "/etc/lstm_ts"):
        command = command.replace(folder, str(DEPLOY / ("nginx/lstm_ts.conf" if "conf" in folder else "monitoring")))
    written = tmp_path / {"nginx": "lstm_ts.conf"}.get(name, f"{name}.yml")
    command = command.replace("/tmp", str(tmp_path)).partition("&& exec")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=LIMIT_S, env={"PATH": os.environ["PATH"]})
    kept = [line for line in written.read_text().splitlines() if "127.0.0.1:" in line.partition("#")[0]]
    assert kept == []
    if name == "prometheus":
        tool = program("promtool", "prometheus")
        assert subprocess.run([tool, "check", "config", written], timeout=LIMIT_S).returncode == 0
    if name == "alertmanager":
        tool = program("amtool", "prometheus-alertmanager")
        assert subprocess.run([tool, "check-config", written], timeout=LIMIT_S).returncode == 0


def test_compose_mounts_files_that_are_there() -> None:
    files = [config["file"] for config in COMPOSE["configs"].values()]
    volumes = [volume.split(":")[0] for each in COMPOSE["services"].values() for volume in each.get("volumes", [])]
    files += [volume for volume in volumes if volume.startswith("./") and volume != "./minutes"]  # the user's
    assert [file for file in files if not (DEPLOY / file).exists()] == []


def test_staging_reaches_nothing_of_production() -> None:
    overlays = {
        name: (DEPLOY / f"k8s/overlays/{name}/kustomization.yaml").read_text() for name in ("staging", "production")
    }
    places = [
        {yaml.safe_load(text)["namespace"], *re.findall(r"[\w.]+\.example\.org", text)} for text in overlays.values()
    ]
    assert len(places[0]) > 3 and not places[0] & places[1]


def test_a_killed_services_folder_is_there_after_a_restart() -> None:
    unit = (DEPLOY / "systemd/lstm-ts@.service").read_text()
    assert re.search(r"^Environment=.* TMPDIR=/var/cache/lstm_ts/tmp-%i$", unit, re.M)
    assert "\nCacheDirectory=lstm_ts lstm_ts/tmp-%i\n" in unit
    serve = COMPOSE["services"]["serve"]
    assert serve["tmpfs"] == [] and "serve:/tmp" in serve["volumes"] and "serve" in COMPOSE["volumes"]


@pytest.mark.parametrize("command", ["serve", "dashboard", "pipeline"])
def test_systemd_takes_the_unit(command: str, tmp_path: Path) -> None:
    unit = tmp_path / f"lstm-ts@{command}.service"
    text = (DEPLOY / "systemd/lstm-ts@.service").read_text()
    unit.write_text(text.replace("/opt/lstm_ts/bin/lstm-ts", "/bin/true"))  # which it looks for
    tool = program("systemd-analyze", "systemd")
    done = subprocess.run([tool, "verify", unit], capture_output=True, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert f"lstm-ts@{command}" in text.splitlines()[0] and "\nRestart=always\n" in text
