"""The origin of a model: its bars and its code, hashed and dated."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lstm_ts import clock
from lstm_ts.market.bars import hash_bars
from lstm_ts.model.forecaster import Provenance
from lstm_ts.model.symbol_data import SymbolData

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "lightning", "onnxruntime", "polars", "numpy", "pandas_market_calendars", "safetensors")

TARGETS = re.compile(r'"_target_": "([^"]+)"')
REVISION = "LSTM_TS_REVISION"  # set by deploy/Dockerfile
DECISIVE = ("symbols", "seed", "spec", "data", "net", "optimisation", "weight_averaging", "patience", "warm_lr")
SETTINGS_OF_OUTPUT = ("enable_progress_bar", "log_every_n_steps")


def describe(data: SymbolData, *, seed: int, config: Mapping[str, Any]) -> Provenance:
    seen = select_seen(data)
    return Provenance(
        symbol=data.name,
        source=data.bars.source,
        data_start=seen["ts"][0].isoformat(),
        data_end=data.test_from.isoformat(),
        data_sha256=hash_bars(seen),
        trained_until=data.valid_from.isoformat(),
        seed=seed,
        created=clock.now().isoformat(timespec="seconds"),
        code_revision=code_revision(),
        versions=library_versions(),
        config=config,
    )


def select_seen(data: SymbolData) -> pl.DataFrame:
    """Return the hourly bars before the test."""
    return data.bars.hourly_bars.filter(pl.col("ts") < data.test_from)


def library_versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES} | {"python": sys.version.split()[0]}


def select_decisive(config: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """Return the settings that determine a model, and `more`; sessions are part of the bars' own record."""
    wanted = {name: config[name] for name in (*DECISIVE, *more)}
    return wanted | {
        "trainer": {name: value for name, value in config["trainer"].items() if name not in SETTINGS_OF_OUTPUT}
    }


def code_revision() -> str:
    """Return the commit, with a plus sign where the tree differs; in an image LSTM_TS_REVISION; else `unknown`."""
    if REVISION in os.environ:
        return os.environ[REVISION]
    command = ("git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty=+")
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def hash_training(*decisive: Any) -> str:
    """Return the SHA-256 of what determines a training: bars and configuration as given, code, libraries, `has_bf16`.

    decisive   JSON; the code includes that of each `_target_` in it
    """
    given = json.dumps(decisive)
    code = hash_code(*TARGETS.findall(given))
    return hashlib.sha256(json.dumps([code, library_versions(), has_bf16(), given]).encode()).hexdigest()


def has_bf16() -> bool:
    """Return whether the hardware multiplies in bf16: the GPU if there is one, or the CPU by AVX-512 bf16."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def hash_code(*targets: str) -> str:
    """Return the SHA-256 of the sources and tables, committed or not, of this package and of the modules or packages
    of `targets`, but for those of LIBRARIES.
    """
    digest = hashlib.sha256()
    for name in sorted({PACKAGE.name, *(target.partition(".")[0] for target in targets)} - {*LIBRARIES}):
        for path in _find_sources(name):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _find_sources(name: str) -> list[Path]:
    """Return the files of a package, or that of a module; none: it is built in, or cannot be imported."""
    try:
        spec = find_spec(name)
    except ValueError:
        return []
    if spec and spec.submodule_search_locations:
        found = (path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*"))
        return sorted(path for path in found if path.suffix in (".py", ".csv") and path.is_file())
    return [Path(spec.origin)] if spec and spec.has_location and spec.origin else []
