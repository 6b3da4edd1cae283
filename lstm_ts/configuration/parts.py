"""Access to the composed configuration of a command: parts, stores, models, symbols and addresses."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import polars as pl
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lstm_ts.configuration import conf_files
from lstm_ts.configuration.explanations import explain_group, explain_parameter
from lstm_ts.configuration.overrides import SYMBOL, key_of, task_overrides, to_overrides
from lstm_ts.errors import ArtifactError, ConfigError, LstmTsError
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.symbol import Symbol, check_symbol, name_model
from lstm_ts.store.bar_store import BarStore

CONF = str(conf_files.CONF)  # as Hydra takes it

log = logging.getLogger(__name__)


def construct(cfg: DictConfig, **objects: Any) -> Any:
    """Instantiate a node with plain Python values, so that no DictConfig leaves the entry point, beside `objects`."""
    try:
        return instantiate(cfg, _convert_="all", _partial_=True)(**objects)
    except (TypeError, ValueError, InstantiationException) as error:
        mistake = error.__cause__ if isinstance(error, InstantiationException) else error
        if isinstance(mistake, LstmTsError):
            raise mistake from None
        if not isinstance(mistake, TypeError | ValueError):
            raise
        raise ConfigError(explain_parameter(mistake, cfg._target_)) from error


def to_json(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration in JSON types."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def check_action(request: Any, options: Mapping[str, Sequence[str]]) -> None:
    """request   what a command line requests, as its `action`
    options   of each action
    Raises    ConfigError: no such action, or one that does not read an option that is set
    """
    if request.action not in options:
        *actions, last = options
        raise ConfigError(f"Expected action={', '.join(actions)} or {last}, got {request.action}")
    for option in dict.fromkeys(chain(*options.values())):
        if option not in options[request.action] and (value := getattr(request, option)) is not None:
            readers = ", ".join(action for action, read in options.items() if option in read)
            raise ConfigError(
                f"Expected no {option} for action={request.action}, got {option}={value}; leave it out, or choose "
                f"action={readers}"
            )


def require(request: Any, option: str) -> Any:
    """request    what a command line requests, as its `action`    Raises    ConfigError: it lacks the option"""
    value = getattr(request, option)
    if value is None or not str(value).strip():
        raise ConfigError(f"Expected {option}=… for action={request.action}, got none")
    if OmegaConf.is_config(value) or isinstance(value, bool):
        raise ConfigError(f"Expected one {option} for action={request.action}, got {value}")
    return value


def typed_overrides() -> dict[str, str]:
    """Return the overrides of this command line by key."""
    overrides = task_overrides(HydraConfig.get()) if HydraConfig.initialized() else []
    return {key_of(text): text for text in overrides}


def reject_options(cfg: DictConfig, *options: str) -> None:
    """Raises    ConfigError: an option is set that another command takes, and this one inherits"""
    typed = {key.partition(".")[0]: text for key, text in typed_overrides().items()}
    for option in options:
        if got := typed.get(option) if OmegaConf.is_dict(cfg[option]) else cfg[option]:
            raise ConfigError(f"Expected no {option} here, which only train reads, got {got}; leave it out")


def reject_relaunch(cfg: DictConfig) -> None:
    """Raises    ConfigError: Lightning would start this command again for each device, and it trains more than once"""
    strategy, devices = cfg.trainer.strategy, cfg.trainer.devices
    if devices != 1 and strategy not in ("ddp_spawn", "ddp_fork"):
        raise ConfigError(
            f"Expected trainer.strategy=ddp_spawn or ddp_fork with trainer.devices={devices}, as this command trains "
            f"more than once, got {strategy}; set one of them"
        )


def raw_store(cfg: DictConfig) -> BarStore:
    return _store(cfg, "raw", BAR_SCHEMA)


def processed_store(cfg: DictConfig, symbol: Symbol | None = None) -> BarStore:
    """symbol    null: the one that the configuration has chosen"""
    return _store(cfg, "processed", HOURLY_SCHEMA, symbol)


def _store(cfg: DictConfig, stage: str, schema: pl.Schema, symbol: Symbol | None = None) -> BarStore:
    """Raises    ConfigError: its bars were stored with another session than the configured one"""
    symbol = symbol or construct(cfg.symbol)
    store = BarStore(Path(cfg.paths.data) / stage / symbol.name, schema)
    store.check_session(symbol.session)
    if foreign := store.describe_foreign_files():
        log.warning(foreign)
    return store


def model_folder(cfg: DictConfig) -> Path:
    """Return the model folder that `model` names, either itself or as the folder of its run.

    Raises    ArtifactError: there is none
    """
    folder = Path(str(cfg.model))
    if (folder / "model" / "manifest.json").is_file():
        return folder / "model"  # a run's folder, which holds one
    if folder.is_dir() and str(cfg.model).strip():
        return folder
    newest = newest_model(Path(cfg.paths.outputs))
    advice = f"model={newest} is the newest" if newest else "run python -m lstm_ts.train first"
    raise ArtifactError(f"Expected a model folder, as train prints it, got model={cfg.model}; {advice}")


def newest_model(outputs: Path) -> Path | None:
    """Return the model folder of the latest run, by the date and time in its path; None: there is none."""
    found = list(outputs.glob("*train/**/model/manifest.json"))
    return max(found, key=lambda path: path.relative_to(outputs).parts[1:]).parent if found else None


def read_symbols(cfg: DictConfig) -> dict[str, Symbol]:
    """Return every symbol that has a file, by name; the chosen one as it is configured."""
    files = _symbol_files()
    names = dict.fromkeys((cfg.symbol.name, *files))
    return {name: symbol for name in names if (symbol := read_symbol(cfg, name, files))}


def _symbol_files() -> dict[str, Path]:
    folders = [CONF]
    if HydraConfig.initialized():
        folders = [source.path for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]
    return {path.stem: path for folder in reversed(folders) for path in Path(folder).glob(f"{SYMBOL}/*.yaml")}


def choose_symbols(cfg: DictConfig) -> list[Symbol]:
    """Return the symbols that `symbols` lists.    Raises    ConfigError: none, one twice, or one without a file"""
    names = [check_symbol(name) for name in cfg.symbols]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Expected symbols, each once, got symbols={names}; list them as in [XAGUSD,XAUUSD]")
    found = {name: read_symbol(cfg, name) for name in names}
    if unknown := [name for name, symbol in found.items() if symbol is None]:
        raise ConfigError(explain_group(SYMBOL, unknown[0], listed=sorted({cfg.symbol.name, *_symbol_files()})))
    return [symbol for symbol in found.values() if symbol]


def read_symbol(cfg: DictConfig, name: str, files: Mapping[str, Path] | None = None) -> Symbol | None:
    """Return the symbol of that name; the chosen one as it is configured; None: it has no file.

    files     of all symbols, if they are known
    Raises    ConfigError: not as a symbol's file is
    """
    if name == cfg.symbol.name:
        return cast(Symbol, construct(cfg.symbol))
    if (path := (files or _symbol_files()).get(name)) is None:
        return None
    try:
        symbol: Symbol = construct(cast(DictConfig, OmegaConf.load(path)))
    except conf_files.UNREADABLE as error:
        raise ConfigError(conf_files.explain_file(error, path)) from error
    check_file_name(path.stem, symbol.name)
    return symbol


def check_file_name(file: str, name: str) -> None:
    """Raises    ConfigError: a copied file has kept the other symbol's name"""
    if name != file:
        raise ConfigError(f"Expected name: {file} in the file {file}.yaml of symbol={file}, got {name}; correct it")


def run_folder() -> Path:
    return Path(HydraConfig.get().runtime.output_dir)


def check_registry(cfg: DictConfig) -> None:
    """Raises    ConfigError: no address at all, which MLflow would take for a folder"""
    forms = "sqlite:///<file> or postgresql+psycopg://<user>:<password>@<host>/<database>"
    for key, given_by in (("uri", "MLFLOW_TRACKING_URI"), ("ledger", "LSTM_TS_LEDGER")):
        if "://" not in str(cfg.registry[key]):  # not repeated: it may hold a password
            also = ", or http://<host>:<port>" if key == "uri" else ""
            raise ConfigError(
                f"Expected registry.{key} as {forms}{also}, got something else; correct it, or {given_by}, "
                f"or leave both out"
            )


def typed_paths(paths: Mapping[str, Any]) -> str:
    """Return overrides, as one types them, of paths that are not those of conf/project.yaml; a blank before each."""
    usual = OmegaConf.load(Path(CONF) / "project.yaml").paths
    changed = {key: path for key, path in paths.items() if path != usual[key]}
    return f" {shlex.join(to_overrides({'paths': changed}))}" if changed else ""


def typed_choice(cfg: DictConfig) -> str:
    """Return the overrides, as one types them, of a command's symbol, registered model and folders.

    They lack `registry.uri` and `registry.ledger`, which may hold passwords.
    """
    return name_model(cfg.symbol.name, cfg.name) + typed_paths(cfg.paths)


def construct_alerts(cfg: DictConfig) -> Any:
    """Return the `Alerts`, whose messages name the command of these folders."""
    return construct(cfg.alerts, paths=typed_paths(cfg.paths))
