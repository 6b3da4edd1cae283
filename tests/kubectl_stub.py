"""A `kubectl` that plays a cluster of one namespace, whose objects lie in a file: KUBECTL_STUB names it.

`kustomize` is the real program's. Whatever a release does not need is refused as kubectl refuses it.
"""

import argparse
import fcntl
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

FILE = Path(os.environ["KUBECTL_STUB"])
KINDS = {"deployment", "service", "pods", "httproutes.gateway.networking.k8s.io"}
RESOURCE = "httproutes.gateway.networking.k8s.io"


def fail(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(1)


@contextmanager
def cluster() -> Iterator[Any]:
    """The objects, kept at the end."""
    with FILE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = json.loads(FILE.read_text())
        yield state
        FILE.write_text(json.dumps(state, indent=1))


def known(kind: str, state: Any) -> str:
    if (kind == RESOURCE and not state["gateway"]) or kind not in KINDS:
        fail(f'error: the server doesn\'t have a resource type "{kind.partition(".")[0]}"')
    return kind


def run_pods(state: Any, deployment: Any) -> None:
    """Pods of a Deployment, each with a server of its image."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    name, image = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    state["pods"] = [pod for pod in state["pods"] if pod["metadata"]["labels"] != labels]
    for number, port in enumerate(state["servers"].get(image.rpartition(":")[2], [])):
        metadata = {"name": f"{name}-{state['made']}-{number}", "labels": labels}
        metadata["creationTimestamp"] = f"2026-01-01T00:00:{state['made']:02}Z"
        state["pods"].append({"metadata": metadata, "status": {"phase": "Running"}, "port": port})
    state["made"] += 1


def find(state: Any, kind: str, name: str) -> Any:
    found = state[kind].get(name)
    if found is None:
        fail(f'Error from server (NotFound): {kind}s "{name}" not found')
    return found


def get(state: Any, arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="get")
    parser.add_argument("what", nargs="*")
    parser.add_argument("--raw")
    parser.add_argument("-l")
    parser.add_argument("--field-selector", choices=["status.phase=Running"])
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("-o", choices=["json", "name"])
    asked = parser.parse_args(arguments)
    if asked.raw:
        assert asked.raw == "/apis" and not asked.what and not asked.o, arguments
        names = ["apps", "batch", *(["gateway.networking.k8s.io"] if state["gateway"] else [])]
        print(json.dumps({"kind": "APIGroupList", "groups": [{"name": name} for name in names]}))
        return
    kind, name = (*asked.what[0].split("/"), *asked.what[1:], "")[:2]
    if known(kind, state) == "pods":
        wanted = dict(each.split("=") for each in asked.l.split(",")).items()
        print(
            json.dumps(
                {"kind": "List", "items": [p for p in state["pods"] if wanted <= p["metadata"]["labels"].items()]}
            )
        )
    elif kind == RESOURCE:
        if state["route"] or not asked.ignore_not_found:
            print(f"{RESOURCE}/{find({RESOURCE: {'serve': state['route']}}, RESOURCE, name)['metadata']['name']}")
    elif name in state[kind] or not asked.ignore_not_found:
        found = find(state, kind, name)
        print(f"{kind}.apps/{name}" if asked.o == "name" else json.dumps(found))


def apply(state: Any, arguments: list[str]) -> None:
    assert arguments == ["-f", "-"], arguments
    for each in yaml.safe_load_all(sys.stdin.read()):
        kind, name = each["kind"].lower(), each["metadata"]["name"]
        state[kind][name] = each
        print(f"{kind}/{name} created")
        if kind == "deployment":
            run_pods(state, each)


def annotate(state: Any, arguments: list[str]) -> None:
    target, text, *options = arguments
    assert options in ([], ["--overwrite"]), options
    annotations = find(state, *target.split("/"))["metadata"].setdefault("annotations", {})
    key, is_set, value = text.partition("=")
    if is_set:
        annotations[key] = value
    else:
        annotations.pop(key.removesuffix("-"), None)


def set_image(state: Any, arguments: list[str]) -> None:
    what, target, text = arguments
    assert what == "image", arguments
    deployment = find(state, *target.split("/"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    name, _, image = text.partition("=")
    if name != container["name"]:
        fail(f'error: unable to find container named "{name}"')
    container["image"] = image
    run_pods(state, deployment)


def rollout(state: Any, arguments: list[str]) -> None:
    status, target, _ = arguments
    assert status == "status", arguments
    image = find(state, *target.split("/"))["spec"]["template"]["spec"]["containers"][0]["image"]
    if image.rpartition(":")[2] not in state["servers"]:
        fail("error: timed out waiting for the condition")


def patch(state: Any, arguments: list[str]) -> None:
    kind, name, how, option, text = arguments
    assert (how, option, name, known(kind, state)) == ("--type=json", "-p", "serve", RESOURCE), arguments
    for each in json.loads(text):
        *path, last = each["path"].strip("/").split("/")
        target: Any = state["route"]
        for part in path:
            target = target[int(part) if part.isdigit() else part]
        assert each["op"] == "replace" and last in target, each
        target[last] = each["value"]


def delete(state: Any, arguments: list[str]) -> None:
    kinds, name, option = arguments
    assert option == "--ignore-not-found", arguments
    for kind in kinds.split(","):
        gone = state[known(kind, state)].pop(name, None)
        if gone and kind == "deployment":
            labels = gone["spec"]["template"]["metadata"]["labels"]
            state["pods"] = [pod for pod in state["pods"] if pod["metadata"]["labels"] != labels]


class Relay(socketserver.BaseRequestHandler):
    """Bytes to the pod and back, until the pod closes."""

    target: tuple[str, int]

    def handle(self) -> None:
        print("Handling connection for 8080", flush=True)
        with socket.create_connection(self.target) as pod:
            threading.Thread(target=self._copy, args=(self.request, pod), daemon=True).start()
            self._copy(pod, self.request)

    @staticmethod
    def _copy(source: Any, target: Any) -> None:
        with suppress(OSError):  # the other way has ended
            while content := source.recv(65536):
                target.sendall(content)


def port_forward(arguments: list[str]) -> None:
    target, ports, address = arguments
    assert (ports, address) == (":8080", "--address=127.0.0.1"), arguments
    with cluster() as state:
        found = [pod for pod in state["pods"] if f"pod/{pod['metadata']['name']}" == target]
    if not found:
        fail(f'Error from server (NotFound): pods "{target}" not found')
    Relay.target = ("127.0.0.1", found[0]["port"])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        print(f"Forwarding from 127.0.0.1:{server.server_address[1]} -> 8080", flush=True)
        server.serve_forever()


VERBS = {
    "get": get, "apply": apply, "annotate": annotate, "set": set_image, "rollout": rollout, "patch": patch,
    "delete": delete,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    if arguments[0] == "kustomize":
        sys.exit(subprocess.run([os.environ["REAL_KUBECTL"], *arguments]).returncode)
    if arguments[0] == "-n":
        assert arguments[1] == "lstm-ts-staging", arguments
        arguments = arguments[2:]
    if arguments[0] == "port-forward":
        port_forward(arguments[1:])
    with cluster() as state:
        VERBS[arguments[0]](state, arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
