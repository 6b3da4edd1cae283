"""Requirements for compose.yaml that no schema checks, and for images and secrets anywhere; called by `policy.py`."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

PINNED = re.compile(r".+(:(?!latest$)[\w.-]+|:\$\{\w+:-(?!latest\})[\w.-]+\}|@sha256:[0-9a-f]{64})")
SECRET = re.compile("(PASS(WORD|WD|PHRASE)?S?|SECRETS?|TOKENS?|KEYS?|URLS)(?![A-Z])", re.IGNORECASE)  # in a name
GIVEN = re.compile(r"\$\{\w+(-|:-|:?\?[^}]*)?\}")  # a secret from outside, without a default
IN_CLEAR = re.compile(
    r"://[^/\s:@]*:[^/\s@$]+@|(?:password|secret|token|api[_-]?key)s?(?![a-z])\w*[=:] *[^\s$]", re.IGNORECASE
)
OTHERS = {"postgres", "ib-gateway"}  # images of others, which begin as root
ENTRANCE = "nginx"
INNER = {"postgres"}  # reach nothing outside
USED = """build cap_drop command configs depends_on entrypoint environment healthcheck image init mem_limit networks
ports profiles read_only restart secrets security_opt shm_size stop_grace_period tmpfs ulimits user volumes"""
LOCKS = {"serve": "LSTM_TS_API_KEYS", "dashboard": "LSTM_TS_DASHBOARD_PASSWORD"}  # or all are let in
OWNER = re.compile(r"[1-9]\d*:[1-9]\d*")


def check_dockerfile(text: str) -> Iterator[str]:
    """Check whom the stages that begin a program run as, and that none holds a secret."""
    users, begun, stage = dict[str, str](), list[str](), ""
    for line in text.replace("\\\n", "").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, stage = rest.partition(" AS ")
            users[stage] = users.get(base, "root")
        elif word == "USER":
            users[stage] = rest
        elif word in ("ENV", "ARG"):
            yield from in_clear(dict(each.partition("=")[::2] for each in shlex.split(rest)))
        elif word == "CMD":
            begun.append(stage)
    yield from (f"{each} runs as {users[each]}, not as UID:GID" for each in begun if not OWNER.fullmatch(users[each]))


def in_clear(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the variables whose name or value is that of a secret."""
    yield from (f"holds {n}" for n, value in values.items() if SECRET.search(n) or IN_CLEAR.search(str(value)))


def check_compose(composed: Any) -> Iterator[str]:
    services = composed["services"]
    for name, service in services.items():
        yield from (f"{name} {found}" for found in check_composed(name, service))
        yield from (f"{name} {found}" for found in check_settings(name, service))
        yield from (f"{name} {found}" for found in check_files(service, composed))
        yield from (f"{name} {found}" for found in check_references(service, composed))
        networks = {each: composed.get("networks", {}).get(each) or {} for each in service.get("networks", ["default"])}
        if name in INNER and not all(each.get("internal") for each in networks.values()):
            yield f"{name} is in a network that is not internal"
    given = [short_form(port).rpartition(":")[0] for each in services.values() for port in each.get("ports", [])]
    taken = Counter(found[1] for text in given if (found := re.search(r"(\d+)\}?$", text)))
    yield from (f"{number} is the port of two services" for number, count in taken.items() if count > 1)
    for kind, known in {"networks": {"internal"}, "volumes": set[str]()}.items():
        defined = composed.get(kind, {}).items()
        yield from (
            f"{name} of {kind} has {key}" for name, each in defined for key in sorted((each or {}).keys() - known)
        )


def check_composed(name: str, service: Any) -> Iterator[str]:
    if not PINNED.fullmatch(service["image"]):
        yield f"image {service['image']} is not pinned"
    if service.get("restart") != "unless-stopped":
        yield "does not begin again: its restart is not unless-stopped"
    if "mem_limit" not in service:
        yield "has no limit of memory"
    if name not in OTHERS and not (service.get("read_only") and service.get("cap_drop") == ["ALL"]):
        yield "may write to its root, or keeps rights"
    if service.get("security_opt") != ["no-new-privileges:true"]:
        yield "may gain rights: its security_opt is not [no-new-privileges:true]"
    yield from (f"has {key}, which nothing here checks" for key in sorted(service.keys() - {*USED.split()}))
    if str(service.get("user", "")).split(":")[0] in ("root", "0"):
        yield "runs as root"
    for port in service.get("ports", []) if name != ENTRANCE else []:
        if not short_form(port).startswith("127.0.0.1:"):
            yield f"is open to others at {port}"


def short_form(port: Any) -> str:
    """Return a port as `address:published:target`, of which each but the last may be absent."""
    if isinstance(port, Mapping):
        return ":".join(str(port.get(key, "")) for key in ("host_ip", "published", "target"))
    return str(port)


def check_settings(name: str, service: Any) -> Iterator[str]:
    given = service.get("environment", {})
    values = given if isinstance(given, Mapping) else dict(each.partition("=")[::2] for each in given)
    yield from in_clear({n: value for n, value in values.items() if value and not GIVEN.fullmatch(str(value))})
    if LOCKS.get(name, "") not in {"", *values}:
        yield f"has no {LOCKS[name]}"
    for key in ("command", "entrypoint"):
        if IN_CLEAR.search(str(service.get(key, ""))):
            yield f"holds a secret in its {key}"


def check_references(service: Any, composed: Any) -> Iterator[str]:
    needed = service.get("depends_on", {})
    conditions = needed if isinstance(needed, Mapping) else {}
    awaited = {name for name, each in conditions.items() if each.get("condition") == "service_healthy"}
    for name in needed:
        other = composed["services"].get(name)
        if other is None:
            yield f"needs {name}, which is not there"
        elif name in awaited and "test" not in other.get("healthcheck", {}):
            yield f"waits for the health of {name}, which has no healthcheck"
    for name in service.get("networks", []):
        if name not in composed.get("networks", {}):
            yield f"is in the network {name}, which is not defined"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0] if isinstance(volume, str) else volume.get("source", "")
        if source not in composed.get("volumes", {}) and not ours(source):
            yield f"mounts {source}, which is neither a volume nor a file of deploy/"


def ours(file: str) -> bool:
    return file.startswith("./") and ".." not in file


def check_files(service: Any, composed: Any) -> Iterator[str]:
    """Yield the configs and secrets that are not there, or that a service with a read-only root cannot use.

    Compose mounts those that name a file; it writes all others into the root, and refuses if that is read-only.
    """
    for kind in ("configs", "secrets"):
        for given in service.get(kind, []):
            name = given if isinstance(given, str) else given["source"]
            if name not in composed.get(kind, {}):
                yield f"has {name} of {kind}, which is not there"
            elif service.get("read_only") and "file" not in composed[kind][name]:
                yield f"has a read-only root, into which {name} of {kind} cannot be written: name a file"
            elif not ours(composed[kind][name].get("file", "./")):
                yield f"has {name} of {kind}, which is no file of deploy/"
