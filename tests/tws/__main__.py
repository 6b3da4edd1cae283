"""`python -m tests.tws`: see the package's docstring."""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, time

import polars as pl

from . import __doc__ as manual
from .faults import FAULTS, Fault, Schedule, parse_faults
from .faults import __doc__ as schedules
from .market import PRICES, Market
from .server import Server, Settings


def read_bars(text: str) -> tuple[str, pl.DataFrame]:
    """`[SYMBOL=]FILE` as symbol and frame.

    Raises   argparse.ArgumentTypeError: no such file, or other columns
    """
    symbol, _, name = text.rpartition("=")
    try:
        frame = pl.read_csv(name, try_parse_dates=True) if name.endswith(".csv") else pl.read_parquet(name)
    except (OSError, pl.exceptions.PolarsError) as wrong:
        raise argparse.ArgumentTypeError(
            f"Expected a Parquet or CSV file of minute bars, got {name}: {wrong}"
        ) from None
    stamp = frame.schema.get("ts")
    if not isinstance(stamp, pl.Datetime) or not set(PRICES) <= set(frame.columns):
        found = ", ".join(f"{column} {dtype}" for column, dtype in frame.schema.items())
        problem = f"Expected columns ts (a datetime), {', '.join(PRICES)}, got {found} in {name}"
        raise argparse.ArgumentTypeError(problem)
    utc = pl.col("ts").dt.convert_time_zone("UTC") if stamp.time_zone else pl.col("ts").dt.replace_time_zone("UTC")
    return symbol or "XAGUSD", frame.select(utc, *PRICES)


def read_faults(text: str) -> tuple[Fault, ...]:
    try:
        return parse_faults(text)
    except ValueError as wrong:  # argparse keeps the text of its own error only
        raise argparse.ArgumentTypeError(str(wrong)) from None


def parse_arguments() -> argparse.Namespace:
    lines = (f"  {name:14} {kind.meets:11} {kind.seen:6} {kind.what}" for name, kind in FAULTS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.tws",
        description=manual,
        epilog="\n".join([(schedules or "").strip(), "", "  fault          meets       known", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    bars = "minute bars, Parquet or CSV: ts (open, UTC), open, high, low, close; XAGUSD unless said; may be given again"
    add("--bars", action="append", type=read_bars, required=True, metavar="[SYMBOL=]FILE", help=bars)
    add("--port", type=int, default=0, help="of 127.0.0.1; 0 for a free one")
    add("--faults", type=read_faults, default=(), help="names with commas between, see below; none by default")
    add("--seed", type=int, default=0)
    add("--rate", type=float, default=0.02, help="probability of a fault that is only named")
    add("--pace", type=float, default=1.0, help="IB's pacing rules, their seconds times this; 0 for none")
    add("--outage", type=float, default=2.0, metavar="S", help="how long what comes back stays away")
    add("--reset", type=time.fromisoformat, metavar="HH:MM", help="daily reset, UTC by IB's clock")
    add("--account", default="DU1234567", help="a paper account's name begins with D")
    add("--clock-skew", type=float, default=0.0, metavar="S", help="IB's clock is so much ahead; no later bar is known")
    add("--lifetime", type=float, default=12 * 3600.0, metavar="S", help="ends by itself after so long")
    add("--control", action="store_true", help="take commands on standard input, end with it")
    return parser.parse_args()


async def control(server: Server) -> None:
    """Commands, one a line, each answered by one line of JSON: status, revised, clock STAMP, faults LIST."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode():
        command, _, value = line.strip().partition(" ")
        if command == "clock":
            stamp = datetime.fromisoformat(value)
            server.clock.skew_s += stamp.replace(tzinfo=stamp.tzinfo or UTC).timestamp() - server.clock.now
        elif command == "faults":
            server.schedule.restart(parse_faults(value))
        print(json.dumps(server.desk.history.revised if command == "revised" else server.journal.to_json()), flush=True)


async def serve(arguments: argparse.Namespace) -> None:
    market = Market(dict(arguments.bars))
    settings = Settings(
        account=arguments.account,
        clock_skew_s=arguments.clock_skew,
        pace=arguments.pace,
        outage_s=arguments.outage,
    )
    server = Server(market, Schedule(arguments.faults, seed=arguments.seed, rate=arguments.rate), settings)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await server.line.listen(arguments.port)
    except OSError as wrong:
        sys.exit(f"Expected a free port, got {arguments.port}: {wrong.strerror}; choose another, or 0 for any")
    print(f"listening on 127.0.0.1:{server.line.port}", flush=True)
    work: list[Coroutine[None, None, object]] = [stopped.wait()]
    work += [server.reset_daily(arguments.reset)] if arguments.reset else []
    work += [control(server)] if arguments.control else []
    tasks = [asyncio.create_task(part) for part in work]
    done, left = await asyncio.wait(tasks, timeout=arguments.lifetime, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    await server.line.close()
    for task in done:
        task.result()
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(server.journal.to_json()), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(serve(parse_arguments()))
