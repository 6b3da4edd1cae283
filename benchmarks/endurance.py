"""`python -m benchmarks.endurance [MINUTES]`: the service at 60 % of its capacity, while versions and workers change.

Serves the demo's champion (made by `make demo`), registered twice, with two workers. During the run, the second version
is promoted and rolled back, and a worker is killed. Latencies are measured from the time each request was due.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from benchmarks.measured_server import MeasuredServer, read, running
from benchmarks.serve import SYMBOL, ask, window_of
from benchmarks.servers import HOST
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.registry.registry import Registry

DATA, OUTPUTS = Path("data/demo"), Path("outputs/demo")
DEMO = OUTPUTS / "registry"
SHARE, CONNECTIONS, BURST, WORKERS = 0.6, 32, 3000, 2


def prepare(folder: Path) -> Registry:
    """Make a registry with the demo's champion as version 1, which serves, and again as version 2."""
    demo, registry = (
        Registry(f"sqlite:///{at}/mlflow.db", Ledger(f"sqlite:///{at}/ledger.db")) for at in (DEMO, folder)
    )
    champion = demo.version(SYMBOL, "champion")
    gate, metrics = demo.read_gate(champion), demo.metrics(champion)
    for _ in range(2):
        registry.register(SYMBOL, OUTPUTS / "champion", gate=gate, tags=champion.tags, metrics=metrics, params={})
    registry.promote(SYMBOL, 1, alias="champion", actor="a benchmark", reason="the demo's")
    return registry


def memory_mib(server: MeasuredServer) -> float:
    """Return the proportional set size of the server's processes, in MiB."""
    pids = [path.name for path in Path("/proc").glob("[0-9]*") if in_group(path, server.pid)]
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(kib) for text in rollups for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)) / 1024


def in_group(process: Path, group: int) -> bool:
    try:
        return os.getpgid(int(process.name)) == group
    except ProcessLookupError:
        return False


def workers(server: MeasuredServer) -> list[int]:
    found = [path for path in Path("/proc").glob("[0-9]*") if in_group(path, server.pid)]
    return sorted(int(path.name) for path in found if b"spawn_main" in (path / "cmdline").read_bytes())


async def keep_asking(port: int, body: bytes, *, rate: float, until: float) -> tuple[Counter[int], list[float]]:
    """Send `rate` requests a second; return the counts of the statuses, and the latencies in milliseconds."""
    head = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    message = f"{head}\r\n\r\n".encode() + body
    statuses: Counter[int] = Counter()
    taken_ms: list[float] = []

    async def connect(number: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        due = time.monotonic() + number / rate
        while due < until:
            await asyncio.sleep(due - time.monotonic())
            writer.write(message)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            assert length, answer
            await reader.readexactly(int(length[1]))
            statuses[int(answer[9:12])] += 1
            taken_ms.append(1e3 * (time.monotonic() - due))
            due += CONNECTIONS / rate
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connect(number) for number in range(CONNECTIONS)))
    return statuses, taken_ms


async def inject_events(server: MeasuredServer, registry: Registry, seconds: float) -> list[float]:
    """Promote, roll back and kill a worker; return memory (MiB) at each tenth of the time, first before these."""
    memory = []
    for tenth in range(1, 10):
        await asyncio.sleep(seconds / 10)
        memory.append(await asyncio.to_thread(memory_mib, server))
        if tenth == 3:
            await asyncio.to_thread(registry.promote, SYMBOL, 2, alias="champion", actor="a benchmark", reason="tried")
        elif tenth == 5:
            await asyncio.to_thread(registry.rollback, SYMBOL, actor="a benchmark", reason="tried")
        elif tenth == 7:
            os.kill(workers(server)[0], signal.SIGKILL)
    return memory


async def endure(server: MeasuredServer, registry: Registry, body: bytes, minutes: float) -> int:
    """Run the load, and print the measurements; return the number of forecasts that were answered."""
    burst = time.perf_counter()
    await ask(server, body, connections=CONNECTIONS, count=BURST)
    capacity = BURST / (time.perf_counter() - burst)
    asked = keep_asking(server.port, body, rate=SHARE * capacity, until=time.monotonic() + 60 * minutes)
    (statuses, taken_ms), memory = await asyncio.gather(asked, inject_events(server, registry, 60 * minutes))
    percentiles = quantiles(taken_ms, n=100)
    print(
        f"{minutes:g} minutes at {SHARE:.0%} of {capacity:,.0f} requests/s; {WORKERS} workers, {os.cpu_count()} cores"
    )
    times = f"p50 {percentiles[49]:.2f} ms, p99 {percentiles[98]:.2f} ms, longest {max(taken_ms) / 1e3:.1f} s"
    print(f"answers by status: {dict(statuses)}; {times}")
    print("memory by tenth of the time, MiB:", ", ".join(f"{mib:,.0f}" for mib in memory))
    return BURST + statuses[200]


def main(minutes: float) -> None:
    body = window_of(load_forecaster(OUTPUTS / "champion"), DATA)
    start = datetime.now(UTC)
    with TemporaryDirectory() as folder:
        registry = prepare(Path(folder))
        databases = (f"registry.uri=sqlite:///{folder}/mlflow.db", f"registry.ledger=sqlite:///{folder}/ledger.db")
        paths = (f"paths.data={DATA}", f"paths.outputs={OUTPUTS}", f"workers_per_device={WORKERS}", *databases)
        with running("lstm_ts", "-m", "serve.server", f"host={HOST}", "port={port}", *paths) as server:
            answered = asyncio.run(endure(server, registry, body, minutes))
            health = json.loads(read(server.port, "/health"))
            print("loaded at the end:", [worker["model"]["version"] for worker in health["workers"]])
        with closing(Ledger(f"sqlite:///{folder}/ledger.db")) as ledger:
            rows = ledger.forecasts(SYMBOL, since=start, until=datetime.now(UTC) + timedelta(minutes=1))
        versions = dict(Counter(row.version for row in rows))
        print(f"in the forecast log: {len(rows):,} of {answered:,} answered; by version {versions}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
