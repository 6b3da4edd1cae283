"""Servers beside ours: what `benchmarks.serve` compares with, `python -m benchmarks.servers floor PORT`,
`… hooks PORT MODEL [fast]` and `… plain PORT MODEL`, and nginx in front of replicas.
"""

import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litserve
import polars as pl

from lstm_ts.http_schema import Window
from lstm_ts.market.bars import HOURLY_SCHEMA

if TYPE_CHECKING:
    from lstm_ts.model.forecaster import Forecast

HOST = "127.0.0.1"
DEPLOY = Path(__file__).parents[1] / "deploy"


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def processes_of(session: int) -> dict[int, str]:
    """Command lines of all processes of a session, by process id; but for those that wait to be reaped."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found[int(stat.parent.name)] = stat.with_name("cmdline").read_text().replace("\0", " ")
    return {pid: line for pid, line in found.items() if line}


def nginx_command(folder: Path, port: int, replicas: Sequence[int], *, rate: int = 50) -> list[str | Path]:
    """nginx as `deploy/release` starts it, in the foreground.

    folder      a new one, for its files
    replicas    ports of services
    rate        requests a second of one client
    """
    folder.mkdir()
    sys.path.append(str(DEPLOY))
    text: str = import_module("local_place").write_nginx(
        folder, port, [f"server {HOST}:{each} max_fails=0;" for each in replicas]
    )
    (folder / "nginx.conf").write_text(f"daemon off;\n{text.replace('rate=50r/s', f'rate={rate}r/s')}")
    return [shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx", "-c", folder / "nginx.conf"]


class Constant(litserve.LitAPI):  # type: ignore[misc]
    """The same body into the same schema, and one number."""

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: Mapping[str, Any]) -> Window:
        return Window.model_validate(request)

    def predict(self, window: Window) -> float:
        return 15.0

    def encode_response(self, price: float) -> dict[str, float]:
        return {"predicted_price": price}


class Hooks(litserve.LitAPI):  # type: ignore[misc]
    """The forecast by LitServe's own loop; no checks beyond the schema's."""

    def __init__(self, model: Path) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        from lstm_ts.model.artifact import load_forecaster

        self.forecaster = load_forecaster(self.model)

    def decode_request(self, request: Mapping[str, Any]) -> pl.DataFrame:
        return to_bars(Window.model_validate(request))

    def predict(self, bars: pl.DataFrame) -> "Forecast":
        return self.forecaster.forecast(bars)

    def encode_response(self, forecast: "Forecast") -> dict[str, Any]:
        from lstm_ts.predict import to_json

        return to_json(forecast, "a request", [])


def to_bars(window: Window) -> pl.DataFrame:
    rows = [(bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume, None, 1.0) for bar in window.bars]
    return pl.DataFrame(rows, schema=HOURLY_SCHEMA, orient="row")


def serve_by_litserve(api: litserve.LitAPI, port: int, *, fast: bool = False) -> None:
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=fast)
    server.run(host=HOST, port=port, log_level="warning", generate_client_file=False)


def serve_plain(port: int, model: Path) -> None:
    """One process, no queue, no checks beyond the schema's."""
    import torch
    import uvicorn
    from fastapi import FastAPI

    from lstm_ts.model.artifact import load_forecaster
    from lstm_ts.predict import to_json

    torch.set_num_threads(1)
    forecaster, app = load_forecaster(model), FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/predict")
    async def predict(window: Window) -> dict[str, Any]:
        return to_json(forecaster.forecast(to_bars(window)), "a request", [])

    uvicorn.run(app, host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["floor", port]:
            serve_by_litserve(Constant(), int(port))
        case ["hooks", port, model, *fast]:
            serve_by_litserve(Hooks(Path(model)), int(port), fast=fast == ["fast"])
        case ["plain", port, model]:
            serve_plain(int(port), Path(model))
