"""Deployments `serve` and `serve-canary` of a namespace, and the weights of the route if the cluster has one.

Requests reach pods by `kubectl port-forward`, inside the pods' network: no network policy blocks them, each carries the
API key, and metrics are those of each pod.
"""

import atexit
import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from place import NEW, OLD, READY_S, SHARE, fetch

HERE = Path(__file__).resolve().parent
NAMESPACES = {"staging": "lstm-ts-staging", "production": "lstm-ts"}
GATEWAY = "gateway.networking.k8s.io"
BEFORE = "lstm-ts/before"  # annotation: the image to go back to
TRACKS = {OLD: "stable", NEW: "canary"}  # label of the pods
PORT = 8080  # containerPort
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+\n")


class ClusterPlace:
    def __init__(self, name: str) -> None:
        if name not in NAMESPACES:
            raise SystemExit(f"Expected {', '.join(NAMESPACES)} or local:FOLDER, got {name}")
        self._namespace = NAMESPACES[name]
        self._asked: dict[str, list[str]] = {}  # pods by version
        self._ports: dict[str, int] = {}  # of this machine, by pod

    def start(self, version: str) -> None:
        if self._kubectl("get", "deployment/serve-canary", "--ignore-not-found", "-o", "name"):
            tried = self._image("serve-canary").rpartition(":")[2]
            raise SystemExit(f"Expected no version on trial, got {tried}; promote it, or go back")
        self._kubectl("annotate", "deployment/serve", f"{BEFORE}-", "--overwrite")
        rendered = self._kubectl("kustomize", str(HERE / "k8s/overlays/canary/new"))
        self._kubectl("apply", "-f", "-", stdin=re.sub(r"(image: \S+/serve):\S+", rf"\1:{version}", rendered))
        try:
            self._kubectl("rollout", "status", "deployment/serve-canary", f"--timeout={READY_S}s")
            self._weigh(SHARE)
        except BaseException:
            self._remove_canary()
            raise

    def ask(self, which: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request to a pod; if it fails, the pod may be replaced: try once more, with the pods that run then."""
        for _ in range(2):
            if which not in self._asked:
                self._asked[which] = self._pods(which)
            for pod in self._asked[which][:1]:
                status, answer = self._fetch(pod, path, body)
                if status:
                    return status, answer
            del self._asked[which]
        return 0, b""

    def scrape(self, which: str) -> dict[str, str]:
        answers = {pod: self._fetch(pod, "/metrics") for pod in self._pods(which)}
        return {pod: figures.decode() for pod, (status, figures) in answers.items() if status == 200}

    def promote(self) -> None:
        new, old = self._image("serve-canary"), self._image("serve")
        if new != old:  # the same: a promotion that was cut short has noted the image before
            self._kubectl("annotate", "deployment/serve", f"{BEFORE}={old}", "--overwrite")
        self._set_image(new)
        self._remove_canary()

    def back(self) -> None:
        before = self._get("deployment/serve")["metadata"].get("annotations", {}).get(BEFORE)
        if before:
            self._set_image(before)
            self._kubectl("annotate", "deployment/serve", f"{BEFORE}-")
        self._remove_canary()

    def _set_image(self, image: str) -> None:
        self._kubectl("set", "image", "deployment/serve", f"main={image}")
        self._kubectl("rollout", "status", "deployment/serve", f"--timeout={READY_S}s")

    def _remove_canary(self) -> None:
        self._weigh(0)
        self._kubectl("delete", "deployment,service", "serve-canary", "--ignore-not-found")

    def _weigh(self, share: float) -> None:
        """Set the new version's share of requests; without a route, all requests stay with the running version."""
        if not self._has_route():
            return
        weights = [round(100 * (1 - share)), round(100 * share)]
        patch = [
            {"op": "replace", "path": f"/spec/rules/0/backendRefs/{number}/weight", "value": weight}
            for number, weight in enumerate(weights)
        ]
        self._kubectl("patch", f"httproutes.{GATEWAY}", "serve", "--type=json", "-p", json.dumps(patch))

    def _has_route(self) -> bool:
        """Return whether the route exists; `kubectl get` of an unknown kind fails even with --ignore-not-found."""
        groups = json.loads(self._kubectl("get", "--raw", "/apis"))["groups"]
        if GATEWAY not in {group["name"] for group in groups}:
            return False
        return bool(self._kubectl("get", f"httproutes.{GATEWAY}", "serve", "--ignore-not-found", "-o", "name"))

    def _pods(self, which: str) -> list[str]:
        """Return the names of the running pods, the oldest first."""
        found = self._get("pods", "-l", f"app=serve,track={TRACKS[which]}", "--field-selector=status.phase=Running")
        told = [pod["metadata"] for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
        return [each["name"] for each in sorted(told, key=lambda each: (each["creationTimestamp"], each["name"]))]

    def _fetch(self, pod: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        port = self._ports.pop(pod, 0) or self._forward(pod)
        status, answer = fetch(port, path, body) if port else (0, b"")
        if status:
            self._ports[pod] = port
        return status, answer

    def _forward(self, pod: str) -> int:
        """Return a local port that is forwarded to the pod until this process ends; 0 if forwarding fails."""
        command = ["kubectl", "-n", self._namespace, "port-forward", f"pod/{pod}", f":{PORT}", "--address=127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(process.terminate)
        assert process.stdout
        found = FORWARDING.fullmatch(process.stdout.readline())
        threading.Thread(target=process.stdout.read, daemon=True).start()  # it tells of each connection
        return int(found[1]) if found else 0

    def _image(self, deployment: str) -> str:
        (container,) = self._get(f"deployment/{deployment}")["spec"]["template"]["spec"]["containers"]
        return str(container["image"])

    def _get(self, *arguments: str) -> Any:
        return json.loads(self._kubectl("get", *arguments, "-o", "json"))

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        named = () if arguments[0] == "kustomize" or "--raw" in arguments else ("-n", self._namespace)
        command = ["kubectl", *named, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"Expected {' '.join(command[:6])} … to succeed, got: {done.stderr.strip()}")
        return done.stdout.strip()
