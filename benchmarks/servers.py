"""Servers beside ours: what `benchmarks.serve` compares with, `python -m benchmarks.servers floor PORT` and
`… plain PORT MODEL`, and nginx in front of replicas.
"""

import os
import runpy
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import litserve

from lstm_ts.http_schema import Window

HOST = "127.0.0.1"
DEPLOY = Path(__file__).parents[1] / "deploy"


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def nginx_command(folder: Path, port: int, replicas: Sequence[int], *, rate: int = 50) -> list[str | Path]:
    """nginx as `deploy/release` starts it, in the foreground.

    folder      a new one, for its files
    replicas    ports of services
    rate        requests a second of one client
    """
    folder.mkdir()
    servers = "\n    ".join(f"server {HOST}:{each};" for each in replicas)
    text = (DEPLOY / "nginx/lstm_ts.conf").read_text().replace("server 127.0.0.1:8000;", servers)
    text = text.replace("listen 80;", f"listen {HOST}:{port};").replace("rate=50r/s", f"rate={rate}r/s")
    (folder / "lstm_ts.conf").write_text(text)
    main: str = runpy.run_path(str(DEPLOY / "release"))["NGINX"].replace("FOLDER", str(folder))
    (folder / "nginx.conf").write_text(f"daemon off;\n{main}")
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


def serve_constant(port: int) -> None:
    server = litserve.LitServer(Constant(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host=HOST, port=port, log_level="warning", generate_client_file=False)


def serve_plain(port: int, model: Path) -> None:
    """One process, no queue, no checks beyond the schema's."""
    import polars as pl
    import torch
    import uvicorn
    from fastapi import FastAPI

    from lstm_ts.market.bars import HOURLY_SCHEMA
    from lstm_ts.model.artifact import load_forecaster
    from lstm_ts.predict import to_json

    torch.set_num_threads(1)
    forecaster, app = load_forecaster(model), FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/predict")
    async def predict(window: Window) -> dict[str, Any]:
        rows = [(bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume, 1.0) for bar in window.bars]
        forecast = forecaster.forecast(pl.DataFrame(rows, schema=HOURLY_SCHEMA, orient="row"))
        return to_json(forecast, "a request", [])

    uvicorn.run(app, host=HOST, port=port, log_level="warning")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["floor", port]:
            serve_constant(int(port))
        case ["plain", port, model]:
            serve_plain(int(port), Path(model))
