"""Requirements for containers that no schema checks: `python deploy/policy.py kubernetes|compose|dockerfile FILE`."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from compose_policy import IN_CLEAR, LOCKS, PINNED, check_compose, check_dockerfile, in_clear
from network_policy import (
    Objects,
    check_ingress,
    check_network,
    check_route,
    check_service,
    container_ports,
    pods_of,
    ports,
    selects,
)

ADAPTER = Path(__file__).parent / "monitoring" / "prometheus-adapter.yaml"
SECRETS = set(re.findall(r"--from-literal=([\w-]+)", (Path(__file__).parent / "README.md").read_text()))
DATA = "/srv/lstm_ts"
MOUNTS = {"/tmp", DATA}
NEEDED = {"cpu", "memory"}
RIGHTS = {  # by name: what a container must have, and what it could do otherwise
    "runAsNonRoot": (True, "may run as root"),
    "readOnlyRootFilesystem": (True, "may write to its root"),
    "allowPrivilegeEscalation": (False, "keeps rights"),
    "capabilities": ({"drop": ["ALL"]}, "keeps rights"),
    "seccompProfile": ({"type": "RuntimeDefault"}, "has no seccomp profile"),
}
OWNERS = {"runAsUser", "runAsGroup"}
OF_FILES = {"fsGroup", "fsGroupChangePolicy"}
OF_THE_NODE = ("hostNetwork", "hostPID", "hostIPC", "nodeName")
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
SELECTORS = ("selector", "podSelector")
GRACE_S = 30  # Kubernetes's own terminationGracePeriodSeconds


def check_kubernetes(objects: Objects) -> Iterator[str]:
    for (kind, name), each in objects.items():
        check = CHECKS.get(kind)
        found = check(each, objects) if check else ["is of a kind that nothing here checks"]
        yield from (f"{kind} {name}: {fault}" for fault in found)
        if any("matchExpressions" in each.get("spec", {}).get(key, {}) for key in SELECTORS):
            yield f"{kind} {name}: selects by matchExpressions, which nothing here checks"
    policies = [each["spec"] for (kind, _), each in objects.items() if kind == "NetworkPolicy"]
    if not any(not p["podSelector"] and len(p.get("policyTypes", [])) == 2 and "ingress" not in p for p in policies):
        yield "no NetworkPolicy closes all pods in both directions"


def check_deployment(each: Any, objects: Objects) -> Iterator[str]:
    template = each["spec"]["template"]
    yield from check_pod(template["spec"], objects)
    if not selects(each["spec"]["selector"], template["metadata"]["labels"]):
        yield "selects other pods than its own"
    for container in template["spec"]["containers"]:
        secrets = {env["name"] for env in container.get("env", []) if "secretKeyRef" in env.get("valueFrom", {})}
        if (lock := LOCKS.get(template["metadata"]["labels"].get("app"))) and lock not in secrets:
            yield f"has no {lock} of a secret"
        mounts = container.get("volumeMounts", [])
        yield from (f"may write to {DATA}" for each in mounts if each["mountPath"] == DATA and not each.get("readOnly"))
        if "readinessProbe" not in container:
            yield "has no readinessProbe"


def check_cronjob(each: Any, objects: Objects) -> Iterator[str]:
    yield from check_pod(each["spec"]["jobTemplate"]["spec"]["template"]["spec"], objects)


def check_pod(spec: Any, objects: Objects) -> Iterator[str]:
    account, volumes = spec.get("securityContext", {}), {volume["name"]: volume for volume in spec.get("volumes", [])}
    yield from (f"has {key}" for key in OF_THE_NODE if spec.get(key))
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token of the cluster"
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        yield from check_rights({**account, **container.get("securityContext", {})})
        yield from check_container(container)
        yield from check_settings(container, objects)
        yield from (f"mounts {m['name']}" for m in container.get("volumeMounts", []) if m["name"] not in volumes)
        stop_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if stop_s >= spec.get("terminationGracePeriodSeconds", GRACE_S):
            yield "is killed before its preStop ends"
    for name, volume in volumes.items():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and ("PersistentVolumeClaim", claim) not in objects:
            yield f"claims {claim}, which is not there"
        if not volume.keys() <= {"name", "emptyDir", "persistentVolumeClaim"}:
            yield f"has the volume {name} of another kind"


def check_rights(rights: Mapping[str, Any]) -> Iterator[str]:
    """Check what a container may do, where its own settings win over those of the pod."""
    yield from {fault for name, (wanted, fault) in RIGHTS.items() if rights.get(name) != wanted}
    yield from (f"may run as root, by {name}" for name in sorted(OWNERS) if not rights.get(name))
    yield from (f"sets {name}" for name in sorted(rights.keys() - RIGHTS.keys() - OWNERS - OF_FILES))


def check_container(container: Any) -> Iterator[str]:
    resources, open_ports = container.get("resources", {}), container_ports([container])
    for kind in ("requests", "limits"):
        yield from (f"has no {kind} of {lacking}" for lacking in NEEDED - set(resources.get(kind, {})))
    if not PINNED.fullmatch(container["image"]):
        yield f"image {container['image']} is not pinned"
    lacking = MOUNTS - {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    yield from (f"mounts nothing at {each}" for each in sorted(lacking))
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "has a port of its node"
    for probe in PROBES:
        for asked in container.get(probe, {}).values():
            if isinstance(asked, Mapping) and "port" in asked and asked["port"] not in open_ports:
                yield f"is asked by its {probe} at {asked['port']}, which is no port of it"


def check_settings(container: Any, objects: Objects) -> Iterator[str]:
    """Check variables and arguments: no secret in clear, and nothing that is defined nowhere."""
    known = {variable["name"] for variable in container.get("env", [])}
    for source in container.get("envFrom", []):
        name = source.get("configMapRef", {}).get("name")
        if ("ConfigMap", name) not in objects:
            yield f"reads settings of {name}, which is not there"
        known |= set(objects.get(("ConfigMap", name), {}).get("data", {}))
    yield from in_clear({each["name"]: each["value"] for each in container.get("env", []) if "value" in each})
    asked = [each.get("valueFrom", {}).get("secretKeyRef", {}).get("key") for each in container.get("env", [])]
    yield from (f"reads {key}, which README.md puts into no secret" for key in asked if key and key not in SECRETS)
    for text in (*container.get("command", []), *container.get("args", [])):
        yield from check_addresses(text, objects)
        if IN_CLEAR.search(text):
            yield "holds a secret in its arguments"
        yield from (f"is given {name}, which is set nowhere" for name in set(re.findall(r"\$\((\w+)\)", text)) - known)


def check_scaler(scaler: Any, objects: Objects) -> Iterator[str]:
    spec = scaler["spec"]
    known = {rule["name"]["as"] for rule in yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]}
    asked = {metric["pods"]["metric"]["name"] for metric in spec.get("metrics", []) if metric["type"] == "Pods"}
    yield from (f"asks for {name}, which no adapter makes" for name in asked - known)
    if (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]) not in objects:
        yield f"scales {spec['scaleTargetRef']['name']}, which is not there"
    if spec.get("minReplicas", 1) > spec["maxReplicas"]:
        yield "has more replicas at least than at most"


def check_selector(each: Any, objects: Objects) -> Iterator[str]:
    selector = each["spec"].get("selector")  # without one it is nobody's
    if not selector or not any(selects(selector, pod["metadata"]["labels"]) for pod in pods_of(objects)):
        yield "selects no pod"


def check_budget(each: Any, objects: Objects) -> Iterator[str]:
    yield from check_selector(each, objects)
    scaler = objects.get(("HorizontalPodAutoscaler", each["metadata"]["name"]), {"spec": {}})
    kept = each["spec"].get("minAvailable", 0)
    if kept == "100%" or (isinstance(kept, int) and kept >= scaler["spec"].get("minReplicas", 1)):
        yield "keeps all replicas, so that no node can be emptied"


def check_secret(*_: Any) -> Iterator[str]:
    yield "is named here, and kept elsewhere"


def check_settings_map(each: Any, objects: Objects) -> Iterator[str]:
    yield from in_clear(each.get("data", {}))
    for value in each.get("data", {}).values():
        yield from check_addresses(value, objects)


def check_addresses(text: str, objects: Objects) -> Iterator[str]:
    for name, port in re.findall(r"http://([\w-]+):(\d+)", text):
        if int(port) not in ports(objects, name):
            yield f"leads to {name}:{port}, which is no port of a service"


def check_claim(each: Any, _: Objects) -> Iterator[str]:
    if each["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "is for one node: its accessModes are not [ReadWriteMany]"


CHECKS: Mapping[str, Any] = {
    "ConfigMap": check_settings_map,
    "CronJob": check_cronjob,
    "Deployment": check_deployment,
    "HTTPRoute": check_route,
    "HorizontalPodAutoscaler": check_scaler,
    "Ingress": check_ingress,
    "NetworkPolicy": check_network,
    "PersistentVolumeClaim": check_claim,
    "PodDisruptionBudget": check_budget,
    "Secret": check_secret,
    "Service": check_service,
}


def check(kind: str, text: str) -> Sequence[str]:
    if kind == "dockerfile":
        return list(check_dockerfile(text))
    if kind == "compose":
        return list(check_compose(yaml.safe_load(text)))
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}
    return list(check_kubernetes(objects))


if __name__ == "__main__":
    problems = check(sys.argv[1], Path(sys.argv[2]).read_text())
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))
