"""Checks of a composed configuration before its command runs: values of their keys' kinds, names that can be part of
a path, nothing missing.
"""

import math
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lstm_ts import logs
from lstm_ts.clock import read_clock
from lstm_ts.configuration.conf_files import CONF, included_files
from lstm_ts.configuration.explanations import DECODED, show_value, unknown_key, unread_key
from lstm_ts.configuration.overrides import (
    EXPERIMENT,
    UNCHECKED_GROUPS,
    flatten,
    is_group,
    key_of,
    load,
    look_up,
    parse,
    task_overrides,
    value_of,
)
from lstm_ts.configuration.parts import check_file_name, construct, newest_model
from lstm_ts.errors import ConfigError
from lstm_ts.market.session import utc
from lstm_ts.market.symbol import check_name, check_symbol

CHECKED_BY_LIGHTNING = tuple(f"trainer.{name}" for name in ("devices", "precision", "accelerator", "gradient_clip_val"))
DATES = re.compile(
    r"(span|walk|source)\.(start|end)|split\.(valid_from|test_from|test_until)|complete_until|first_day|at"
)
ALIAS = re.compile(r"\$\{([\w.]+)\}")  # a value that is another key's
KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


def check_configuration(cfg: DictConfig, hydra_node: Any) -> None:
    """Check a composed configuration.    Raises    ConfigError

    hydra_node   Hydra's own part of it
    """
    read_clock()
    logs.check_format(cfg.log)
    command, runtime = hydra_node.job.config_name, hydra_node.runtime
    if not (CONF / f"{command}.yaml").is_file():
        raise ConfigError(
            f"Expected no --config-name, got {command}; move the file to {EXPERIMENT}/{command}.yaml in that folder, "
            f"with the first line # @package _global_, and type +{EXPERIMENT}={command}"
        )
    _check_values(cfg, command, task_overrides(hydra_node), runtime.choices)
    if EXPERIMENT in runtime.choices or _own_folders(runtime):
        _check_files(cfg, command, runtime)
    check_names(cfg, hydra_node.runtime.choices["symbol"])
    _check_complete(cfg)
    if "trainer" in cfg:
        _check_training(cfg)


def check_single(hydra_node: Any) -> None:
    """Raises    ConfigError: a sweep, where one run is wanted"""
    if hydra_node.mode is RunMode.MULTIRUN:
        typed = " ".join([hydra_node.job.config_name, *task_overrides(hydra_node)])
        swept = ", ".join(hydra_node.sweeper.params or ())
        raise ConfigError(f"Expected settings of one run, got a sweep over {swept}; type python -m lstm_ts.{typed}")


def _check_training(cfg: DictConfig) -> None:
    """Raises    ConfigError: values at which NumPy or Lightning fail, or processes that the machine cannot run"""
    for key, seed in (("seed", cfg.seed), ("data.seed", cfg.data.seed)):
        if not 0 <= seed < 2**32:
            raise ConfigError(f"Expected {key} from 0 to {2**32 - 1}, got {seed}")
    epochs, devices, most = cfg.trainer.max_epochs, cfg.trainer.devices, os.cpu_count() or 1
    if isinstance(epochs, int) and epochs < 1:
        raise ConfigError(f"Expected at least one epoch to train, got trainer.max_epochs={epochs}")
    for name in ("max_steps", "limit_train_batches", "limit_val_batches", "max_time", "accumulate_grad_batches"):
        if cfg.trainer.get(name) == 0:
            raise ConfigError(f"Expected something to train on, got trainer.{name}=0; leave it out")
    if isinstance(devices, int) and devices > most:
        raise ConfigError(f"Expected trainer.devices of at most {most}, as many as processors, got {devices}")


def check_names(cfg: DictConfig, chosen: str) -> None:
    """Put each name that becomes part of a path into `cfg` as text.    Raises    ConfigError: it is no such name"""
    cfg.symbol.name = check_symbol(cfg.symbol.name)
    check_file_name(chosen, cfg.symbol.name)
    construct(cfg.symbol)  # raises ConfigError
    if "name" in cfg:
        cfg.name = check_name(cfg.name)
    for kind, path in cfg.paths.items():
        if path is None or not str(path).strip():
            raise ConfigError(f"Expected a folder for paths.{kind}, got none; set paths.{kind}, or leave it out")
        if kind == "outputs" and set("?%") & set(str(path)):
            raise ConfigError(
                f"Expected paths.outputs without ? and %, which mean something else in the URLs of its databases, got "
                f"{path}; name another folder"
            )
        cfg.paths[kind] = str(path)


def _check_complete(cfg: DictConfig) -> None:
    content = cast(dict[str, Any], OmegaConf.to_container(cfg))
    missing = sorted(key for key, value in flatten(content) if value == "???" and not key.startswith("hydra."))
    if not missing:
        return
    newest = newest_model(Path(cfg.paths.outputs)) if missing[0] == "model" else None
    advice = f"{missing[0]}={newest}, the newest one" if newest else f"{missing[0]}=…"
    raise ConfigError(f"Expected a value for {missing[0]}, got none; add {advice}")


def _check_values(cfg: DictConfig, command: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Refuse values of another kind than their key has, and keys that nothing reads; take numbers as text for text.

    Raises    ConfigError
    """
    for key, text in {key_of(text): text for text in overrides}.items():  # the last one of a key counts
        parsed = parse(text)
        if parsed is None or parsed.is_delete() or is_group(key) or key.split(".")[0].split("/")[0] in UNCHECKED_GROUPS:
            continue
        found = _find_default(key, command, choices)
        _check_finite(cfg, key, found[1] if found else 0, text)
        if found is None:
            if not _is_read(cfg, key):
                raise ConfigError(unknown_key(key, text, cfg, command, choices))
            continue
        _check_value(cfg, key, *found, text)
        _check_date(cfg, key, found[1])


def _find_default(key: str, command: str, choices: Mapping[str, Any]) -> tuple[str, Any] | None:
    """Return the key whose default counts, which is another one where its value is that key's, and this default."""
    found = look_up(key, command, choices)
    other = ALIAS.fullmatch(str(found[1])) if found else None
    return (other and _find_default(other[1], command, choices)) or (found and (key, found[1]))


def _own_folders(runtime: Any) -> list[str]:
    return [source.path for source in runtime.config_sources if source.schema == "file" and source.path != str(CONF)]


def _check_files(cfg: DictConfig, command: str, runtime: Any) -> None:
    """Raises    ConfigError: a file that is not the command's own has a key that nothing reads"""
    known = {key: value for path in included_files(command) for key, value in flatten(load(path))}
    repeated = set(ALIAS.findall(OmegaConf.to_yaml(cfg)))
    for key, _ in flatten(OmegaConf.to_container(cfg)):
        top, _, _ = key.partition(".")
        parent = key.rpartition(".")[0]
        is_open = parent and not known.get(parent) and OmegaConf.select(cfg, parent)  # takes any keys
        is_read = (
            key in known or key in repeated or (key in runtime.choices and key != EXPERIMENT) or _is_read(cfg, key)
        )
        is_dotted = "." in key and key in cfg
        if is_dotted or not (is_read or is_open or top in UNCHECKED_GROUPS):
            raise ConfigError(unread_key(key, cfg, command, runtime))


def _check_finite(cfg: DictConfig, key: str, default: Any, text: str) -> None:
    """Raises    ConfigError: a number that is not finite, where the default is one, or a list of some"""
    value = OmegaConf.select(cfg, key)
    values = list(value) if OmegaConf.is_list(value) else [value]
    numeric = isinstance(default, int | float | list)
    if numeric and any(isinstance(each, float) and not math.isfinite(each) for each in values):
        raise ConfigError(f"Expected a finite number for {key}, got {text}; write it as in {key}={show_value(default)}")


def _check_date(cfg: DictConfig, key: str, default: Any) -> None:
    value, takes_fraction = OmegaConf.select(cfg, key), isinstance(default, float)
    if not DATES.fullmatch(key) or (takes_fraction and not isinstance(value, str)):
        return
    try:
        utc(value)
    except ConfigError:
        fraction = " or a fraction such as 0.7" if takes_fraction else ""
        raise ConfigError(f"Expected an ISO date or time such as 2015-01-01{fraction} for {key}, got {value}") from None


def _is_read(cfg: DictConfig, key: str) -> bool:
    """Return whether the key lies in a node that a class is made of (`_target_`), which checks its parameters."""
    parents = key.split(".")[:-1]
    nodes = [OmegaConf.select(cfg, ".".join(parents[: depth + 1])) for depth in range(len(parents))]
    return any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)


def _check_value(cfg: DictConfig, key: str, source: str, default: Any, text: str) -> None:
    """source   the key whose default it is"""
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(cfg, parent) if parent else cfg
    if isinstance(default, dict) and not isinstance(OmegaConf.select(cfg, key), DictConfig):
        own = [option for option in default if not option.startswith("_")]
        options = ", ".join(f"{source}.{option}" for option in own or default)
        raise ConfigError(f"Expected a value for one of {options}, got {text}; set that")
    if not isinstance(holder, DictConfig) or isinstance(default, dict) or "${" in value_of(text):
        return
    value = holder[name] if not OmegaConf.is_missing(holder, name) else None
    if isinstance(default, str) and default.startswith(DECODED):  # a number that the environment may give
        default = OmegaConf.create({name: default})[name]
    elif isinstance(default, str) and default.startswith("${oc.env:") and not default.endswith(",null}"):
        default = default if value is None else "…"  # what the environment gives is text
    elif isinstance(default, str) and re.match(r"[^$].*\$\{|\$\{[\w.]+\}.", default):  # such as a path within another
        default = "…"
    default = float(default) if name.endswith("_s") and type(default) is int else default  # parts of a second count
    if _fits(value, default) or key.startswith(CHECKED_BY_LIGHTNING) or type(value) in _allowed(holder, name):
        return
    if isinstance(default, str) and isinstance(value, int | float):
        OmegaConf.update(cfg, key, value_of(text))
        return
    kind = next((words for known, words in KINDS.items() if type(default) is known), "text")
    if isinstance(default, list) and OmegaConf.is_list(value):
        kind = "numbers"
    if isinstance(default, list) and (not default or "${" in str(default)):
        default = [value_of(text)]
    raise ConfigError(f"Expected {kind} for {key}, got {text}; write it as in {key}={show_value(default)}")


def _fits(value: Any, default: Any) -> bool:
    if default is None or default == "???" or (isinstance(default, str) and "${" in default):
        return True
    if isinstance(default, list):
        numeric = default and all(type(each) in (int, float) for each in default)
        return OmegaConf.is_list(value) and not (numeric and any(type(each) not in (int, float) for each in value))
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)


def _allowed(holder: DictConfig, name: str) -> set[type]:
    """Return the types that a parameter of a class of this project takes; empty for other classes."""
    target = str(holder.get("_target_", ""))
    if not target.startswith(("lstm_ts.", "serve.")):
        return set()
    made = get_object(target)
    hint: Any = typing.get_type_hints(vars(made)["__init__"] if isinstance(made, type) else made).get(name)
    return set(typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint])
