"""`python -m benchmarks.hostile [NAME] [--before PATH]`: latency of an honest client while others attack the service.

Serves the champion under outputs/NAME (default: demo, as made by `make demo`) with two workers. While each attack runs,
an honest client requests forecasts, each on a connection of its own. With --before, a checkout of another commit gets
the same requests in turn with this one, from a NAME that it has made itself, and both p50 are printed. Attacks go to
127.0.0.1 only, are bounded in number and time, and end with the command. Memory is the sum over all of the service's
processes; shared pages are counted for each of them.
"""

import argparse
import asyncio
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from benchmarks.measured_server import MeasuredServer, running
from benchmarks.serve import ask, window_of
from benchmarks.servers import HOST
from lstm_ts.model.artifact import load_forecaster
from lstm_ts.scoring.tables import align

ATTACK_S, CLIENTS, HALF = 8.0, 300, 1000
REQUESTS, ASKING, REQUESTS_S = 50_000, 16, 900.0
ROUNDS, IN_ROUND, WARM_UPS = 12, 200, 100
LEAST_S, PAUSE_S = 3.0, 0.05
Attack = Callable[[MeasuredServer, bytes], Coroutine[Any, Any, Counter[str] | None]]


async def connect(server: MeasuredServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, server.port)


async def send(server: MeasuredServer, *pieces: bytes, hold_s: float = 0.0) -> None:
    """Send the pieces on one connection, held open for `hold_s`; give up if the connection fails.

    Raises     ValueError: the pieces are malformed, so that they have held nothing
    """
    with suppress(OSError):
        reader, writer = await connect(server)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        await asyncio.sleep(hold_s)
        if hold_s and b" 400 " in (answer := await asyncio.wait_for(reader.readline(), ATTACK_S) or b""):
            raise ValueError(f"Expected requests within the protocol, got {answer!r}")
        writer.close()


async def flood_with_a_header(server: MeasuredServer, body: bytes) -> None:
    await send(server, b"GET /health HTTP/1.1\r\nX: ", *[b"a" * 1_000_000] * 100)


async def flood_with_a_url(server: MeasuredServer, body: bytes) -> None:
    await send(server, b"GET /", *[b"a" * 1_000_000] * 25)


async def flood_with_headers(server: MeasuredServer, body: bytes) -> None:
    pieces = (b"GET /health HTTP/1.1\r\nX: ", b"a" * 1_000_000)
    await asyncio.gather(*(send(server, *pieces, hold_s=ATTACK_S) for _ in range(CLIENTS)))


async def send_half_requests(server: MeasuredServer, body: bytes) -> None:
    half = b"POST /predict HTTP/1.1\r\nHost: here\r\n"
    await asyncio.gather(*(send(server, half, hold_s=ATTACK_S) for _ in range(HALF)))


async def send_half_bodies(server: MeasuredServer, body: bytes) -> None:
    half = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 200000\r\n\r\n" + b" " * 100_000
    await asyncio.gather(*(send(server, half, hold_s=ATTACK_S) for _ in range(HALF)))


async def read_nothing(server: MeasuredServer, body: bytes) -> None:
    asks = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: here\r\n\r\n" * 8
    await asyncio.gather(*(send(server, asks, hold_s=ATTACK_S) for _ in range(CLIENTS)))


async def flood(server: MeasuredServer, message: bytes, *, clients: int, count: int, within_s: float) -> Counter[str]:
    """Send requests from `clients`, each after its last answer; return the number of answers by status."""
    left, until, statuses = iter(range(count)), time.monotonic() + within_s, Counter[str]()

    async def ask() -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await connect(server)
            for _ in left:
                if time.monotonic() > until:
                    break
                writer.write(message)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                statuses[head[9:12].decode()] += 1
            writer.close()

    await asyncio.gather(*(ask() for _ in range(clients)))
    return statuses


async def flood_health(server: MeasuredServer, body: bytes) -> Counter[str]:
    message = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"
    return await flood(server, message, clients=8, count=REQUESTS, within_s=ATTACK_S)


async def flood_forecasts(server: MeasuredServer, body: bytes) -> Counter[str]:
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body)
    return await flood(server, head + body, clients=ASKING, count=REQUESTS, within_s=REQUESTS_S)


async def stop_a_worker(server: MeasuredServer, body: bytes) -> None:
    worker = workers_of(server)[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        await asyncio.sleep(ATTACK_S)
    finally:
        os.kill(worker, signal.SIGCONT)


ATTACKS: dict[str, Attack] = {
    "no attack": lambda server, body: asyncio.sleep(ATTACK_S),
    "a header of 100 MB": flood_with_a_header,
    "a URL of 25 MB": flood_with_a_url,
    f"{CLIENTS} headers of 1 MB": flood_with_headers,
    f"{HALF:,} half requests": send_half_requests,
    f"{HALF:,} half bodies of 100 KB": send_half_bodies,
    f"{CLIENTS} that read nothing": read_nothing,
    "a flood of /health": flood_health,
    "a stopped worker": stop_a_worker,
    f"{REQUESTS:,} forecasts": flood_forecasts,
}


def run_attack(name: str, server: MeasuredServer, body: bytes, said: Connection) -> None:
    """Attack from a process of its own, so that the honest client does not wait for the attacker's work."""
    said.send(asyncio.run(ATTACKS[name](server, body)))


async def be_honest(server: MeasuredServer, body: bytes, attack: ForkProcess) -> tuple[list[float], int]:
    """Send requests until the attack has ended; return the seconds of each, and the peak memory in bytes."""
    taken_s, most, started = [], 0, time.perf_counter()
    while attack.is_alive() or time.perf_counter() - started < LEAST_S:
        begun = time.perf_counter()
        await asyncio.wait_for(ask(server, body, connections=1, count=1), 120)
        taken_s.append(time.perf_counter() - begun)
        most = max(most, resident_bytes(server))
        await asyncio.sleep(PAUSE_S)
    return taken_s, most


def processes_of(server: MeasuredServer) -> list[int]:
    """Return the ids of all processes in the server's process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[2]) == server.pid:
                found.append(int(path.parent.name))
    return found


def workers_of(server: MeasuredServer) -> list[int]:
    return [pid for pid in processes_of(server) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def resident_bytes(server: MeasuredServer) -> int:
    pages = 0
    for pid in processes_of(server):
        with suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def serving(name: str, checkout: Path, *command: str) -> Iterator[MeasuredServer]:
    """Serve from `checkout`, with the modules of that checkout."""
    before = Path.cwd()
    os.chdir(checkout)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running(name, *command))
        finally:
            os.chdir(before)
        yield server


def attack_all(server: MeasuredServer, body: bytes) -> None:
    print(row("", "requests", "p50 ms", "worst wait s", "failed", "MB before", "most MB", "MB after"))
    for name in ATTACKS:
        server.failed, before = 0, resident_bytes(server)
        said, saying = Pipe(duplex=False)
        attack = get_context("fork").Process(target=run_attack, args=(name, server, body, saying))
        begun = time.perf_counter()
        attack.start()
        saying.close()
        taken_s, most = asyncio.run(be_honest(server, body, attack))
        attack.join()
        ended = time.perf_counter()
        cells = (f"{len(taken_s):,}", f"{1e3 * statistics.median(taken_s):.1f}", f"{max(taken_s):.3f}")
        memory = (f"{size / 1e6:,.0f}" for size in (before, most, resident_bytes(server)))
        print(row(name, *cells, str(server.failed), *memory), flush=True)
        if statuses := said.recv():
            summary = ", ".join(f"{count:,} with {status}" for status, count in statuses.items())
            print(f"  the attacker was answered {summary}, in {ended - begun:,.0f} s")


def row(name: str, *cells: str) -> str:
    return f"{name:<28}" + "".join(f"{cell:>14}" for cell in cells)


def compare(servers: list[MeasuredServer], body: bytes) -> str:
    """Send requests to the servers in turn; return a table with the p50 and p95 of each."""
    for server in servers:
        asyncio.run(ask(server, body, connections=1, count=WARM_UPS))
    for turn in range(ROUNDS):
        for server in servers if turn % 2 else servers[::-1]:
            server.latencies_ms += asyncio.run(ask(server, body, connections=1, count=IN_ROUND))
    rows = [("", "p50 ms", "p95 ms", "failed")]
    for server in servers:
        percentiles = statistics.quantiles(server.latencies_ms, n=20)
        rows.append((server.name, f"{percentiles[9]:.3f}", f"{percentiles[18]:.3f}", str(server.failed)))
    return "\n".join(align(rows))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile")
    parser.add_argument("name", nargs="?", default="demo")
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    arguments = parser.parse_args()
    data, outputs = f"data/{arguments.name}", f"outputs/{arguments.name}"
    body = window_of(load_forecaster(Path(outputs) / "champion"), Path(data))
    command = ("-m", "serve.server", f"host={HOST}", "port={port}", f"paths.data={data}", f"paths.outputs={outputs}")
    if arguments.before:
        checkouts = (("this commit", Path.cwd()), ("the one before", arguments.before))
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(name, path, *command)) for name, path in checkouts]
            print(compare(servers, body), flush=True)
    with serving("this commit", Path.cwd(), *command, "workers_per_device=2") as server:
        attack_all(server, body)
    print(f"{os.cpu_count()} cores, shared with the attackers")


if __name__ == "__main__":
    main()
