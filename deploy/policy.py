"""Requirements for containers that no schema checks: `python deploy/policy.py kubernetes FILE`, or `compose FILE`."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

PINNED = re.compile(r".+(:(?!latest$)[\w.-]+|:\$\{\w+:-\w+\}|@sha256:[0-9a-f]{64})")
ADAPTER = Path(__file__).parent / "monitoring" / "prometheus-adapter.yaml"
SECRET = re.compile("PASSWORD|SECRET|KEY|URLS")  # in a variable's name
NEEDED = {"cpu", "memory"}
OTHERS = {"postgres", "ib-gateway"}  # images of others, which begin as root
ENTRANCE = "nginx"

Objects = Mapping[tuple[str, str], Any]  # by kind and name


def check_kubernetes(objects: Objects) -> Iterator[str]:
    for (kind, name), each in objects.items():
        check = CHECKS.get(kind)
        if check:
            yield from (f"{kind} {name}: {found}" for found in check(each, objects))


def check_deployment(each: Any, objects: Objects) -> Iterator[str]:
    yield from check_pod(each["spec"]["template"]["spec"], objects)


def check_cronjob(each: Any, objects: Objects) -> Iterator[str]:
    yield from check_pod(each["spec"]["jobTemplate"]["spec"]["template"]["spec"], objects)


def check_pod(spec: Any, objects: Objects) -> Iterator[str]:
    account = spec.get("securityContext", {})
    if not (account.get("runAsNonRoot") and account.get("runAsUser")):
        yield "may run as root"
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token of the cluster"
    for container in spec["containers"]:
        yield from check_container(container)
    for volume in spec["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and ("PersistentVolumeClaim", claim) not in objects:
            yield f"claims {claim}, which is not there"


def check_container(container: Any) -> Iterator[str]:
    rights, resources = container.get("securityContext", {}), container.get("resources", {})
    if not rights.get("readOnlyRootFilesystem"):
        yield "may write to its root"
    if rights.get("allowPrivilegeEscalation") is not False or rights.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps rights"
    for kind in ("requests", "limits"):
        yield from (f"has no {kind} of {lacking}" for lacking in NEEDED - set(resources.get(kind, {})))
    if not PINNED.fullmatch(container["image"]):
        yield f"image {container['image']} is not pinned"
    yield from (f"holds {v['name']}" for v in container.get("env", []) if SECRET.search(v["name"]) and "value" in v)


def check_service(service: Any, objects: Objects) -> Iterator[str]:
    selector = service["spec"].get("selector", {}).items()
    pods = [
        each["spec"]["template"]["metadata"]["labels"] for (kind, _), each in objects.items() if kind == "Deployment"
    ]
    if service["spec"].get("type") != "ExternalName" and not any(selector <= labels.items() for labels in pods):
        yield "selects no pod"


def check_scaler(scaler: Any, _: Objects) -> Iterator[str]:
    known = {rule["name"]["as"] for rule in yaml.safe_load(ADAPTER.read_text())["rules"]["custom"]}
    asked = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods"}
    yield from (f"asks for {name}, which no adapter makes" for name in asked - known)


def check_ingress(ingress: Any, objects: Objects) -> Iterator[str]:
    secured = {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}
    for rule in ingress["spec"]["rules"]:
        if rule["host"] not in secured:
            yield f"{rule['host']} has no TLS"
        for path in rule["http"]["paths"]:
            service = path["backend"]["service"]
            if service["port"]["name"] not in ports(objects, service["name"]):
                yield f"{path['path']} leads nowhere"


def check_route(route: Any, objects: Objects) -> Iterator[str]:
    for rule in route["spec"]["rules"]:
        if sum(backend["weight"] for backend in rule["backendRefs"]) != 100:
            yield "weights are not 100 together"
        for backend in rule["backendRefs"]:
            if backend["port"] not in ports(objects, backend["name"]):
                yield f"{backend['name']} leads nowhere"


def check_secret(*_: Any) -> Iterator[str]:
    yield "is named here, and kept elsewhere"


def ports(objects: Objects, service: str) -> set[str | int]:
    """Return the names and numbers of a service's ports."""
    found = objects.get(("Service", service), {"spec": {}})["spec"].get("ports", [])
    return {value for port in found for value in (port.get("name"), port["port"])}


CHECKS: Mapping[str, Any] = {
    "Deployment": check_deployment,
    "CronJob": check_cronjob,
    "Service": check_service,
    "HorizontalPodAutoscaler": check_scaler,
    "Ingress": check_ingress,
    "HTTPRoute": check_route,
    "Secret": check_secret,
}


def check_compose(composed: Any) -> Iterator[str]:
    for name, service in composed["services"].items():
        yield from (f"{name} {found}" for found in check_composed(name, service))
        yield from (f"{name} {found}" for found in check_files(service, composed))


def check_composed(name: str, service: Any) -> Iterator[str]:
    if not PINNED.fullmatch(service["image"]):
        yield f"image {service['image']} is not pinned"
    if "mem_limit" not in service:
        yield "has no limit of memory"
    if name not in OTHERS and not (service.get("read_only") and service.get("cap_drop") == ["ALL"]):
        yield "may write to its root, or keeps rights"
    if service.get("privileged") or str(service.get("user", "")).split(":")[0] in ("root", "0"):
        yield "runs as root"
    for port in service.get("ports", []) if name != ENTRANCE else []:
        if not str(port).startswith("127.0.0.1:"):
            yield f"is open to others at {port}"


def check_files(service: Any, composed: Any) -> Iterator[str]:
    """Yield the configs and secrets that a service with a read-only root cannot use.

    Compose mounts those that name a file; it writes all others into the root, and refuses if that is read-only.
    """
    for kind in ("configs", "secrets") if service.get("read_only") else ():
        for given in service.get(kind, []):
            name = given if isinstance(given, str) else given["source"]
            if "file" not in composed[kind][name]:
                yield f"has a read-only root, into which {name} of {kind} cannot be written: name a file"


def check(kind: str, text: str) -> Sequence[str]:
    if kind == "compose":
        return list(check_compose(yaml.safe_load(text)))
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}
    return list(check_kubernetes(objects))


if __name__ == "__main__":
    problems = check(sys.argv[1], Path(sys.argv[2]).read_text())
    print(*problems, sep="\n", end="\n" if problems else "")
    sys.exit(bool(problems))
