"""The start of the service: its configuration checked, its processes started."""

import logging
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lstm_ts import __version__
from lstm_ts.cli import entry_point
from lstm_ts.configuration.parts import check_registry, choose_symbols, construct, processed_store, typed_choice
from lstm_ts.errors import ConfigError, LedgerError
from lstm_ts.ledger.ledger import Ledger
from lstm_ts.lifetime import exit_at_signals
from lstm_ts.market.symbol import Symbol, name_model
from lstm_ts.ports import check_port, show_address
from lstm_ts.registry.ledger_check import is_new
from serve.keys import Keys
from serve.ledger.service_folder import LOST, collect_lost, own_folder
from serve.registry_process import (
    METRICS,
    SOCKET,
    RegistryProcess,
    RemoteRegistry,
    first_process,
    lacks_challenger,
)
from serve.settings import SymbolSettings
from serve.tcp.limits import Limits
from serve.traffic import Arm, Traffic

if TYPE_CHECKING:
    from serve.ledger.forecast_log import ForecastLog

LONGEST_S = 3600
DAY_S = 86400
OPEN_FILES = resource.RLIMIT_NOFILE
MAX_TMPDIR = 70  # bytes: of a socket's path, of which the system allows 107, our own part is the rest
OTHER_FILES = 256  # of an HTTP process beside its connections
LEAST_BACKLOG, BACKLOG = 64, 2048
LITSERVE = {
    "log_level": "warning",
    "generate_client_file": False,
    "access_log": False,
    "log_config": None,
    "ws": "none",
    "timeout_keep_alive": DAY_S,  # `Connection` closes idle ones: uvicorn's protocol does not see half a request
}
MOST_CONNECTIONS = 3000  # where none is configured

log = logging.getLogger(__name__)


def read_settings(cfg: DictConfig, traffic: Traffic) -> list[SymbolSettings]:
    """Settings of each symbol.    Raises    ConfigError: several with a challenger, or one that is unknown"""
    symbols = choose_symbols(cfg)
    if len(symbols) > 1 and traffic.needs_challenger:
        raise ConfigError(
            f"Expected traffic=champion with several symbols, got {', '.join(symbol.name for symbol in symbols)} and "
            f"traffic for a challenger; serve the symbol of the challenger by a service of its own"
        )
    return [_read_settings(cfg, traffic, symbol) for symbol in symbols]


def _read_settings(cfg: DictConfig, traffic: Traffic, symbol: Symbol) -> SymbolSettings:
    logging_config = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    name = cfg.name if symbol.name == cfg.symbol.name else symbol.name
    return SymbolSettings(
        symbol=symbol.name,
        name=name,
        registry_uri=cfg.registry.uri,
        typed=name_model(symbol.name, name),
        session=symbol.session,
        bars=processed_store(cfg, symbol).folder,
        poll_s=cfg.poll_s,
        answer_s=cfg.answer_s,
        health_s=cfg.health_s,
        challenger=traffic.needs_challenger,
        flags=construct(cfg.flags),
        logging=_without_files(cast(dict[str, Any], logging_config)),
    )


def _without_files(config: dict[str, Any]) -> dict[str, Any]:
    used = set(config["root"]["handlers"])
    return config | {"handlers": {name: handler for name, handler in config["handlers"].items() if name in used}}


def check(cfg: DictConfig) -> None:
    for name in ("workers_per_device", "api_servers", "body_limit_bytes", "max_waiting"):
        if not isinstance(cfg[name], int) or cfg[name] <= 0:
            raise ConfigError(f"Expected {name} to be a whole number above 0, got {cfg[name]}")
    for name in ("answer_s", "health_s", "poll_s"):
        if not isinstance(cfg[name], int | float) or not 0 < cfg[name] <= LONGEST_S:
            raise ConfigError(f"Expected {name} above 0 and at most {LONGEST_S}, got {cfg[name]}")
    in_range = isinstance(cfg.port, int) and 1024 <= cfg.port <= 65535
    if not in_range or cfg.host not in ("127.0.0.1", "0.0.0.0", "::"):
        raise ConfigError(
            f"Expected port in 1024..65535 and host 127.0.0.1, 0.0.0.0 or ::, got port={cfg.port} and host={cfg.host}; "
            f"correct them, or LSTM_TS_PORT, AIP_HTTP_PORT and LSTM_TS_HOST"
        )
    check_registry(cfg)
    check_port(cfg.host, cfg.port, takes_ipv4=True)
    if len(os.fsencode(gettempdir())) > MAX_TMPDIR:
        raise ConfigError(
            f"Expected a folder for temporary files of at most {MAX_TMPDIR} bytes, as sockets lie there, "
            f"got {gettempdir()}; set TMPDIR to a shorter one"
        )


def allow_connections(count: int | None) -> tuple[int, int]:
    """Raise the limit of open files.

    count     None: as many as the system allows, at most MOST_CONNECTIONS
    Returns   how many connections are allowed, and how many may be accepted before those they replace close
    Raises    ConfigError: the system allows fewer open files
    """
    soft, hard = (most if most != resource.RLIM_INFINITY else sys.maxsize for most in resource.getrlimit(OPEN_FILES))
    most = hard - OTHER_FILES - LEAST_BACKLOG
    count = count or max(1, min(MOST_CONNECTIONS, most))
    if count > most:
        raise ConfigError(
            f"Expected limits.connections to be at most {most}, as the system allows {hard} open files, "
            f"got {count}; lower it, or raise ulimit -n"
        )
    needed = count + OTHER_FILES
    allowed = max(soft, min(needed + BACKLOG, hard))
    if allowed > soft:
        resource.setrlimit(OPEN_FILES, (allowed, resource.getrlimit(OPEN_FILES)[1]))
    return count, min(BACKLOG, allowed - needed)


def check_challenger(cfg: DictConfig, traffic: Traffic, registry: RemoteRegistry) -> None:
    """Refuse traffic for a challenger that there never was: one that became champion, or was released, stops nothing.

    Raises    ConfigError: traffic needs a challenger, and no version has ever been one
    """
    if not traffic.needs_challenger:
        return
    try:
        with closing(Ledger(cfg.registry.ledger, make=False)) as ledger:
            if ledger.alias_changes(cfg.name, Arm.CHALLENGER):
                return
    except LedgerError:
        return
    if lacks_challenger(registry, cfg.name):
        raise ConfigError(
            f"Expected a challenger of {cfg.name} for this traffic, got none; name one with "
            f"python -m lstm_ts.registry action=promote {typed_choice(cfg)} alias=challenger "
            f"version=… reason='…', or serve with traffic=champion"
        )


@entry_point("serve")
def main(cfg: DictConfig) -> None:
    check(cfg)
    traffic: Traffic = construct(cfg.traffic)
    settings, keys = read_settings(cfg, traffic), Keys(cfg.api_keys.given, cfg.api_keys.file)
    limits: Limits = construct(cfg.limits)
    with exit_at_signals(), own_folder(cfg.port) as folder:
        os.environ[METRICS] = str(folder)
        registry = first_process()
        try:
            registry.listen(folder, settings[0])
            reader = RemoteRegistry(folder / SOCKET, cfg.registry.uri, is_alive=registry.process.is_alive)
            forecast_log: ForecastLog = construct(cfg.forecast_log, folder=folder)
            check_challenger(cfg, traffic, reader)
            forecast_log.find_ledger(make=is_new(cfg.registry.ledger, cfg.registry.uri))
            _serve(cfg, folder, registry, settings, keys, traffic, forecast_log, limits)
        finally:
            registry.process.kill()  # even where it hangs, since the interpreter's end waits for it; it only reads


def _serve(
    cfg: DictConfig,
    folder: Path,
    registry: RegistryProcess,
    settings: Sequence[SymbolSettings],
    keys: Keys,
    traffic: Traffic,
    forecast_log: "ForecastLog",
    limits: Limits,
) -> None:
    most, backlog = allow_connections(limits.connections)
    from serve.api import ForecastApi
    from serve.app import ForecastServer
    from serve.http_process import HttpProcess
    from serve.routes import Routes
    from serve.tcp.connection import Connection
    from serve.tcp.connections import Connections

    _count_lost(cfg.port, cfg.forecast_log.url)
    connections = Connections(limits, most=most, body_limit_bytes=cfg.body_limit_bytes)
    http = HttpProcess(
        ForecastApi(settings, folder, forecast_log.address),
        traffic,
        forecast_log,
        connections,
        keys,
        address=show_address(cfg.host, cfg.port),
        slots=cfg.workers_per_device,
        max_waiting=cfg.max_waiting,
    )
    server = ForecastServer(http, registry)
    symbols = [each.symbol for each in settings]
    server.app.title, server.app.version = f"lstm_ts: forecasts of {', '.join(symbols)}", __version__
    Routes(http, keys, symbols=symbols, body_limit_bytes=cfg.body_limit_bytes).add_to(server.app)
    server.stop_on_signals()
    check_port(cfg.host, cfg.port, takes_ipv4=True)  # again: the imports took seconds
    server.run(
        host=cfg.host,
        port=cfg.port,
        num_api_servers=cfg.api_servers,
        http=partial(Connection, connections),
        backlog=backlog,
        **LITSERVE,
    )
    if server.broken:
        sys.exit(1)


def _count_lost(port: int, ledger_url: str) -> None:
    """Count the forecasts that were lost with services at this port before; log those that are new."""
    from serve.metrics import LOGGED

    lost, counted = collect_lost(port, ledger_url)
    LOGGED.labels(LOST).inc(lost + counted)
    if lost:
        log.error(
            "%d forecasts are not in the ledger: the service that made them was killed, or ended before they were "
            "written",
            lost,
        )
