"""`python -m benchmarks.serve [NAME]`: the service over HTTP, beside what LitServe and plain FastAPI take at least.
`python -m benchmarks.serve NAME replicas`: one service behind nginx beside two, and what each process takes a request.

Serves the champion under outputs/NAME and sends the latest window under data/NAME (default: demo, as `make demo` leaves
them). The servers and their client share this machine; they are asked in turn, so that what slows one slows all.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import psutil

from benchmarks.measured_server import MeasuredServer, is_ready, read, running
from benchmarks.servers import HOST, free_port, nginx_command
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.model.season import NO_STATES
from lstm_ts.scoring.tables import align
from lstm_ts.store.bar_store import BarStore

SYMBOL = "XAGUSD"
ROUNDS, WARM_UPS, ALONE, CONNECTIONS, CROWD = 8, 100, 300, 32, 600  # requests in each round
OURS, TWO, FLOOR, PLAIN = "lstm_ts", "lstm_ts, two workers", "LitServe, a constant", "FastAPI + torch"
QUEUE, FAST = "LitServe's loop and queues", "… with fast_queue"


def read_hours(data: Path) -> pl.DataFrame:
    return BarStore(data / "processed" / SYMBOL, HOURLY_SCHEMA).read()


def window_of(forecaster: Forecaster, data: Path) -> bytes:
    """The body of a request: the latest window in the store."""
    rows = read_hours(data).tail(forecaster.spec.tsteps).drop("spread", "minutes_share").to_dicts()
    return json.dumps({"symbol": SYMBOL, "bars": [row | {"ts": row["ts"].isoformat()} for row in rows]}).encode()


def check_price(server: MeasuredServer, body: bytes, forecaster: Forecaster, hourly_bars: pl.DataFrame) -> None:
    """The price at the last step is that of the model; ours alone knows the profile of late, by the store."""
    states = forecaster.season_states(forecaster.grid(hourly_bars)) if server.name in (OURS, TWO) else NO_STATES
    expected = forecaster.forecast(hourly_bars.tail(forecaster.spec.tsteps), states).price_HL(0.5)[-1, 0]
    price = json.loads(read(server.port, "/predict", body))["path"][-1]["price"]
    assert abs(price / expected - 1) < 1e-6, (server.name, price, expected)


async def ask(server: MeasuredServer, body: bytes, *, connections: int, count: int) -> list[float]:
    """Milliseconds of each of `count` requests, over connections that are kept."""
    headers = [
        "POST /predict HTTP/1.1",
        f"Host: {HOST}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    message = "\r\n".join([*headers, "", ""]).encode() + body
    taken_ms: list[float] = []
    left = iter(range(count))

    async def connect() -> None:
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for _ in left:
            start = time.perf_counter()
            writer.write(message)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            assert length, answer
            await reader.readexactly(int(length[1]))
            taken_ms.append(1e3 * (time.perf_counter() - start))
            server.failed += not answer.startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connect() for _ in range(connections)))
    return taken_ms


def measure(servers: list[MeasuredServer], body: bytes) -> None:
    for server in servers:
        asyncio.run(ask(server, body, connections=CONNECTIONS, count=CONNECTIONS))
        asyncio.run(ask(server, body, connections=1, count=WARM_UPS))
    for turn in range(ROUNDS):
        for server in servers[turn % len(servers) :] + servers[: turn % len(servers)]:
            server.latencies_ms += asyncio.run(ask(server, body, connections=1, count=ALONE))
            started = time.perf_counter()
            asyncio.run(ask(server, body, connections=CONNECTIONS, count=CROWD))
            server.rates.append(CROWD / (time.perf_counter() - started))


def table(servers: list[MeasuredServer]) -> str:
    heads = ("", "p50 ms", "over the constant's", "p99 ms", f"requests/s at {CONNECTIONS}", "of the constant's")
    rows = [(*heads, "failed", "ready in s")]
    floor = next(server for server in servers if server.name == FLOOR)
    for server in servers:
        percentiles = statistics.quantiles(server.latencies_ms, n=100)
        p50, rate = percentiles[49], statistics.median(server.rates)
        ratio, share = p50 / statistics.median(floor.latencies_ms), rate / statistics.median(floor.rates)
        cells = (f"{p50:.2f}", f"{ratio:.2f}", f"{percentiles[98]:.2f}", f"{rate:,.0f}", f"{share:.0%}")
        rows.append((server.name, *cells, str(server.failed), f"{server.ready_s:.1f}"))
    return "\n".join(align(rows))


def measure_parts(server: MeasuredServer, body: bytes) -> str:
    """Mean milliseconds of each part of a request inside our worker, asked one by one."""
    before = read_parts(server.port)
    asyncio.run(ask(server, body, connections=1, count=ALONE))
    after = read_parts(server.port)
    means_ms = {part: 1e3 * (after[part] - before[part]) / ALONE for part in after}
    return "inside the worker, mean ms: " + ", ".join(f"{part} {mean_ms:.2f}" for part, mean_ms in means_ms.items())


def read_parts(port: int) -> dict[str, float]:
    """Seconds since the start."""
    line = r'lstm_ts_part_seconds_sum\{part="(\w+)"\} (\S+)'
    return {part: float(value) for part, value in re.findall(line, read(port, "/metrics").decode())}


def cpu_s(servers: Sequence[MeasuredServer]) -> float:
    """Processor time of servers and of all that they have started; of none: this process's own."""
    roots = [psutil.Process(server.pid) for server in servers]
    processes = [each for root in roots for each in (root, *root.children(recursive=True))] or [psutil.Process()]
    return float(sum(sum(each.cpu_times()[:2]) for each in processes))


@contextmanager
def nginx_before(replicas: Sequence[MeasuredServer]) -> Iterator[MeasuredServer]:
    with TemporaryDirectory() as folder:
        port = free_port()
        command = nginx_command(Path(folder) / "nginx", port, [each.port for each in replicas], rate=1_000_000)
        with subprocess.Popen(command) as nginx:
            while not is_ready(port):
                time.sleep(0.05)
            yield MeasuredServer(f"{len(replicas)} behind nginx", port, 0.0, nginx.pid)
            nginx.terminate()


def compare_replicas(replicas: Sequence[MeasuredServer], body: bytes) -> str:
    """Requests a second of one and of two, in turn; milliseconds of the processor that each request takes."""
    with nginx_before(replicas[:1]) as one, nginx_before(replicas) as two:
        kinds: dict[str, Sequence[MeasuredServer]] = {"client": (), "nginx": (one, two), "replicas": replicas}
        for server in (one, two):
            asyncio.run(ask(server, body, connections=CONNECTIONS, count=CROWD))
        spent: dict[str, list[float]] = {f"{server.name}, {kind}": [] for server in (one, two) for kind in kinds}
        for _ in range(ROUNDS):
            for server in (one, two):
                before, started = {kind: cpu_s(of) for kind, of in kinds.items()}, time.perf_counter()
                asyncio.run(ask(server, body, connections=CONNECTIONS, count=CROWD))
                server.rates.append(CROWD / (time.perf_counter() - started))
                for kind, of in kinds.items():
                    spent[f"{server.name}, {kind}"].append(1e3 * (cpu_s(of) - before[kind]) / CROWD)
    ratios = [after / before for before, after in zip(one.rates, two.rates, strict=True)]
    rows = [
        (server.name, f"{statistics.median(server.rates):,.0f} requests/s", f"{server.failed} failed")
        for server in (one, two)
    ]
    rows += [(name, f"{statistics.median(ms):.2f} ms of the processor a request", "") for name, ms in spent.items()]
    return "\n".join([*align(rows), f"two over one: {statistics.median(ratios):.2f} times; {os.cpu_count()} cores"])


def main(name: str, *options: str) -> None:
    data, outputs = Path("data") / name, Path("outputs") / name
    model = outputs / "champion"
    forecaster = load_forecaster(model)
    body = window_of(forecaster, data)
    ours = ("-m", "serve.server", f"host={HOST}", "port={port}", f"paths.data={data}", f"paths.outputs={outputs}")
    with ExitStack() as stack:
        if options == ("replicas",):
            replicas = [stack.enter_context(running(f"replica {n}", *ours)) for n in (1, 2)]
            print(compare_replicas(replicas, body))
            return
        start = [
            (OURS, ours),
            (TWO, (*ours, "workers_per_device=2")),
            (FLOOR, ("-m", "benchmarks.servers", "floor", "{port}")),
            (PLAIN, ("-m", "benchmarks.servers", "plain", "{port}", str(model))),
            (QUEUE, ("-m", "benchmarks.servers", "hooks", "{port}", str(model))),
            (FAST, ("-m", "benchmarks.servers", "hooks", "{port}", str(model), "fast")),
        ]
        servers = [stack.enter_context(running(name, *command)) for name, command in start]
        for server in servers:
            if server.name != FLOOR:
                check_price(server, body, forecaster, read_hours(data))
        measure(servers, body)
        inside = measure_parts(servers[0], body)
    print(table(servers))
    print(f"{os.cpu_count()} cores; {inside}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["demo"]))
