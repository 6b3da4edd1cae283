"""Requirements for what reaches pods, by services, policies, ingresses and routes; called by `policy.py`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

INSIDE = {"/metrics", "/reload"}  # of the service
PUBLIC = ("serve", "dashboard")
CHANGES = re.compile("rewrite|snippet|regex|app-root")  # of an ingress's annotations

Objects = Mapping[tuple[str, str], Any]  # by kind and name


def check_service(service: Any, objects: Objects) -> Iterator[str]:
    spec = service["spec"]
    if spec.get("type", "ClusterIP") not in ("ClusterIP", "ExternalName") or spec.get("externalIPs"):
        yield "is open to others than the cluster"
    if spec.get("type") == "ExternalName":
        return
    pods = [pod for pod in pods_of(objects) if pod["metadata"]["labels"].items() >= spec.get("selector", {}).items()]
    if not spec.get("selector") or not pods:
        yield "selects no pod"
    for port in spec["ports"]:
        target = port.get("targetPort", port["port"])
        if any(target not in container_ports(pod["spec"]["containers"]) for pod in pods):
            yield f"leads to {target}, which is no port of its pods"


def check_network(policy: Any, objects: Objects) -> Iterator[str]:
    spec = policy["spec"]
    if not pods_by([spec["podSelector"]], objects):
        yield "selects no pod"
    for rule in spec.get("ingress", []):
        if not rule.get("from") or any(is_everyone(peer) for peer in rule["from"]):
            yield "lets everyone in"
        yield from check_rule(rule, rule.get("from", []), [spec["podSelector"]], objects)
    for rule in spec.get("egress", []):
        own = [peer["podSelector"] for peer in rule.get("to", []) if peer.keys() == {"podSelector"}]
        yield from check_rule(rule, rule.get("to", []), own, objects)


def is_everyone(peer: Any) -> bool:
    """Return whether the peer may be anyone: by an address, or in a namespace without a label of ours."""
    return (
        "ipBlock" in peer
        or not peer
        or ("namespaceSelector" in peer and not peer["namespaceSelector"].get("matchLabels"))
    )


def check_rule(rule: Any, peers: Iterable[Any], reached: Iterable[Any], objects: Objects) -> Iterator[str]:
    """Check a rule's ports and peers, where reached selects the pods that it leads to, if they are ours."""
    opened = [port.get("port") for port in rule.get("ports", [])]
    if None in opened or not opened:
        yield "leaves all ports open"
    if pods := pods_by(reached, objects):
        known = container_ports(container for pod in pods for container in pod["spec"]["containers"])
        yield from (f"opens {port}, which is no port of its pods" for port in opened if port not in {*known, None})
    for peer in peers:
        if peer.keys() == {"podSelector"} and not pods_by([peer["podSelector"]], objects):
            yield f"names a peer that selects no pod: {peer['podSelector']}"


def check_ingress(ingress: Any, objects: Objects) -> Iterator[str]:
    secured = {host for tls in ingress["spec"].get("tls", []) for host in tls["hosts"]}
    if "defaultBackend" in ingress["spec"]:
        yield "has a defaultBackend, which gets every path"
    yield from (f"changes paths by {key}" for key in ingress["metadata"].get("annotations", {}) if CHANGES.search(key))
    for rule in ingress["spec"]["rules"]:
        if rule.get("host") not in secured:
            yield f"{rule.get('host')} has no TLS"
        for path in rule["http"]["paths"]:
            service = path["backend"]["service"]
            if not service["name"].startswith(PUBLIC):
                yield f"publishes {service['name']}"
            if service["port"].get("name", service["port"].get("number")) not in ports(objects, service["name"]):
                yield f"{path['path']} leads nowhere"
            if service["name"].startswith("serve") and (path["pathType"] != "Exact" or path["path"] in INSIDE):
                yield f"publishes an internal path by {path['pathType']} {path['path']}"


def check_route(route: Any, objects: Objects) -> Iterator[str]:
    for rule in route["spec"]["rules"]:
        paths = [match.get("path", {}) for match in rule.get("matches", [{}])]
        if any(path.get("type") != "Exact" or path["value"] in INSIDE for path in paths):
            yield "publishes an internal path"
        if sum(backend["weight"] for backend in rule["backendRefs"]) != 100:
            yield "weights are not 100 together"
        if "filters" in rule or any("filters" in backend for backend in rule["backendRefs"]):
            yield "changes requests by filters"
        for backend in rule["backendRefs"]:
            if not backend["name"].startswith(PUBLIC):
                yield f"publishes {backend['name']}"
            if backend["port"] not in ports(objects, backend["name"]):
                yield f"{backend['name']} leads nowhere"


def pods_of(objects: Objects) -> list[Any]:
    """Return the templates of the pods."""
    specs = [(kind, each["spec"]) for (kind, _), each in objects.items() if kind in ("Deployment", "CronJob")]
    return [(spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"] for kind, spec in specs]


def pods_by(selectors: Iterable[Any], objects: Objects) -> list[Any]:
    """Return the templates of the pods that one of the selectors selects."""
    wanted = list(selectors)
    return [pod for pod in pods_of(objects) if any(selects(each, pod["metadata"]["labels"]) for each in wanted)]


def selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Return whether all matches; of the expressions only `In` is known, others match nothing."""
    expressions = [
        (each["operator"], labels.get(each["key"]) in each.get("values", []))
        for each in selector.get("matchExpressions", [])
    ]
    return bool(selector.get("matchLabels", {}).items() <= labels.items()) and set(expressions) <= {("In", True)}


def container_ports(containers: Iterable[Any]) -> set[str | int]:
    """Return the names and numbers of the containers' ports."""
    found = [port for container in containers for port in container.get("ports", [])]
    return {value for port in found for value in (port.get("name"), port["containerPort"])}


def ports(objects: Objects, service: str) -> set[str | int]:
    """Return the names and numbers of a service's ports."""
    found = objects.get(("Service", service), {"spec": {}})["spec"].get("ports", [])
    return {value for port in found for value in (port.get("name"), port["port"])}
