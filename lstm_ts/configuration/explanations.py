"""Explain errors of Hydra, of a class it makes, or of the machine in one sentence: what exists and what to type."""

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import SequenceMatcher
from pathlib import Path
from traceback import walk_tb
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lstm_ts.configuration.conf_files import CONF, UNREADABLE, explain_file, included_files
from lstm_ts.configuration.overrides import (
    EXPERIMENT,
    SYMBOL,
    UNCHECKED_GROUPS,
    as_typed,
    flatten,
    is_group,
    key_of,
    load,
    look_up,
    value_of,
)
from lstm_ts.errors import ConfigError, LstmTsError
from lstm_ts.faults import describe_fault, is_disk_full

TEMPLATE = CONF / SYMBOL / "XAGUSD.yaml"  # of a new one
NEAR = 0.6
NO_TARGET = re.compile(r"(?:Error locating target|Expected a callable target, got) '(?:<module ')?([^']*)'")
DECODED = "${oc.decode:"  # begins a value that is no text and that the environment may give


@contextmanager
def explained(config_name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Raises    ConfigError: an error of Hydra, or of a file that it reads, as one sentence"""
    try:
        yield
    except UNREADABLE as error:
        frames = (frame for frame, _ in walk_tb(error.__traceback__))
        path = next((path for frame in frames if (path := frame.f_locals.get("full_path"))), None)  # Hydra's name
        if path is None:
            raise
        raise ConfigError(explain_file(error, Path(path))) from error
    except HydraException as error:
        if isinstance(error, InstantiationException):
            raise
        raise ConfigError(_explain(error, config_name, overrides)) from error


def _explain(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """Return a sentence for Hydra's error about these overrides of `command`: what exists and what to type."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        if found[1] == "experiment":
            return explain_group(found[1], value_of(_find(overrides, found[1])))
        cfg = _compose(command, [text for text in overrides if key_of(text) != found[1]])
        return unknown_key(found[1], _find(overrides, found[1]), cfg, command, cfg.hydra.runtime.choices)
    if found := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        cfg = _compose(command, overrides)
        return unknown_key(found[1], _find(overrides, found[1]), cfg, command, cfg.hydra.runtime.choices)
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return explain_group(found[1], found[2], listed=re.findall(r"\n\t(\S+)(?=\n)", text.partition("Config se")[0]))
    if found := re.search(r"Cannot find primary config '([^']+)'", text):
        return f"Expected --config-name with a file in {CONF} or in --config-dir, got {found[1]}; leave it out"
    if found := re.search(r"Ambiguous value for argument '(.+)'\n", text):
        key, value = found[1].partition("=")[::2]
        if is_group(key):
            return f"Expected one {key}, got {found[1]}; add -m to run once with each"
        return (
            f"Expected one value, got {found[1]}; write '{key}=[{value}]' for a list, {as_typed(found[1])} for one "
            f"text, or add -m to run once with each"
        )
    if found := re.search(r"already at '([^']+)'", text) or re.search(r"Multiple values for (\w+)", text):
        return f"Expected {found[1]}=… without the +, since {found[1]} exists, got {_find(overrides, found[1])}"
    if found := re.search(r"(\S+) appears more than once", text):
        return f"Expected {found[1]} once, got {_find(overrides, found[1])} beside it; leave the + out"
    return f"Expected overrides that Hydra accepts, got: {' '.join(text.partition('To append')[0].split())}"


def _find(overrides: Sequence[str], key: str) -> str:
    return next((text for text in reversed(overrides) if key_of(text) == key), key)


def explain_group(group: str, got: str, *, listed: Sequence[str] = ()) -> str:
    """Return the sentence for a file that a group does not have; `listed` are those that it has."""
    names = listed or sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    plus = "+" if group == "experiment" else ""
    if got in names:
        return f"Expected {plus}{group}={got}, got {group}={got}; add the +"
    choose = f"Expected {plus}{group}= with one of {', '.join(names)}, got {got}; choose one of them"
    if group != SYMBOL or not got:
        return choose
    return (
        f"{choose}, or make {got} one: copy {TEMPLATE.relative_to(CONF.parent)} to {got}.yaml beside it, or to "
        f"{SYMBOL}/{got}.yaml in a folder of your own that --config-dir names, and change what differs"
    )


def unknown_key(key: str, got: str, cfg: DictConfig, command: str, choices: Mapping[str, Any]) -> str:
    """Return the sentence for a key that `command` does not have: the nearest one, with its default and its file."""
    known = {name: value for name, value in flatten(OmegaConf.to_container(cfg)) if name != key}
    known = {name: value for name, value in known.items() if name.split(".")[0] not in UNCHECKED_GROUPS}
    if found := _takes(cfg, key):
        return f"Expected a key of {command}, got {got}; {found} takes it anyway: write +{got.lstrip('+')}"
    if _likeness(key, "experiment") > NEAR:
        return f"Expected a key of {command}, got {got}; did you mean +experiment={value_of(got)}?"
    last = key.rpartition(".")[2]
    near = last if last in known else max(known, key=lambda name: _likeness(key, name))
    if _likeness(key, near) < NEAR:
        keys = ", ".join(name for name in sorted(known) if "." not in name and not key.startswith(f"{name}."))
        return f"Expected a key of {command}, got {got}; its keys are {keys} (--cfg job shows all with their values)"
    if near in choices:
        file = value_of(got) if (CONF / near / f"{value_of(got)}.yaml").is_file() else choices[near]
        return f"Expected a key of {command}, got {got}; did you mean {near}={file}?"
    while isinstance(known[near], dict) and known[near].keys() - {"_target_"}:
        near = f"{near}.{next(name for name in known[near] if not name.startswith('_'))}"
    found_at = look_up(near, command, choices)
    where = f" ({found_at[0].relative_to(CONF.parent)})" if found_at else ""
    return f"Expected a key of {command}, got {got}; did you mean {near}={show_value(known[near])}{where}?"


def unread_key(key: str, cfg: DictConfig, command: str, runtime: Any) -> str:
    """Return the sentence for a key that a file has and `command` has not.

    runtime   Hydra's record of this composition
    """
    got = f"{key} in {_find_file(key, runtime)}"
    if key == EXPERIMENT:
        file = _find_file("", runtime)
        return (
            f"Expected {file} to begin with the line # @package _global_, got none, so nothing reads it; add the line"
        )
    if "." in key and key in cfg:
        parent, _, name = key.rpartition(".")
        return f"Expected keys without a dot, got {got}; write {name} on a line of its own, indented, below {parent}:"
    commands = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "project")
    takers = [name for name in commands if any(key in load(path) for path in included_files(name))]
    if takers:
        return f"Expected keys of {command}, got {got}, which {', '.join(takers)} can take; leave it out, or run that"
    return unknown_key(key, got, cfg, command, runtime.choices)


def _find_file(key: str, runtime: Any) -> str:
    """Return the file of a chosen group that names the key; of the experiment for no key."""
    folders = [Path(source.path) for source in runtime.config_sources if source.schema == "file"]
    chosen = [f"{group}/{name}.yaml" for group, name in runtime.choices.items() if not key or group == EXPERIMENT]
    paths = [folder / name for name in chosen for folder in folders if (folder / name).is_file()]
    found = next((path for path in paths if not key or key in dict(flatten(load(path)))), None)
    if found is None:
        return "a file that it includes"
    return str(found.relative_to(CONF.parent) if found.is_relative_to(CONF) else found)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose with those overrides that choose an existing file of a group."""
    groups = [text for text in overrides if is_group(key_of(text)) and not text.startswith("~")]
    chosen = [text for text in groups if (CONF / key_of(text) / f"{value_of(text)}.yaml").is_file()]
    with ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():
            stack.enter_context(hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name=command))
        return hydra.compose(command, chosen, return_hydra_config=True)


def _likeness(key: str, name: str) -> float:
    """Return the likeness of two keys, 0..1: the mean of the whole's and of the last part's."""
    pairs = ((key, name), (key.rpartition(".")[2], name.rpartition(".")[2]))
    return sum(SequenceMatcher(None, *pair).ratio() for pair in pairs) / 2


def _takes(cfg: DictConfig, key: str) -> str | None:
    """Return the class of another library that takes the key as a parameter, though its node does not name it."""
    parent, _, name = key.rpartition(".")
    target = OmegaConf.select(cfg, f"{parent}._target_") if parent else None
    if not target or target.startswith("lstm_ts."):
        return None
    return target if name in inspect.signature(get_object(target)).parameters else None


def explain_parameter(error: Exception, target: str) -> str:
    """Return a sentence for a class's error about the values under its node."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if not found:
        return f"Expected values that {target} accepts, got: {error}"
    names = sorted(inspect.signature(get_object(target)).parameters)
    near = max(names, key=lambda name: _likeness(found[1], name))
    return f"Expected parameters of {target}, got {found[1]}; the nearest is {near}"


def show_value(value: Any) -> str:
    """Return the value as one types it."""
    if isinstance(value, list):
        return f"[{','.join(map(show_value, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return "…" if value == "???" else str(value)


def describe_error(error: Exception) -> str | None:
    """Return a sentence for a user's mistake or a fault of the machine; None: anything else."""
    if isinstance(error, InstantiationException) and (found := NO_TARGET.match(str(error))):
        return f"Expected _target_ as the name of a class or function that exists, got {found[1] or 'none'}; correct it"
    mistake = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    if not isinstance(mistake, LstmTsError | HydraException | OmegaConfBaseException) or is_disk_full(error):
        return describe_fault(error)
    text = " ".join(str(mistake).split()).split(" full_key: ")[0]
    if isinstance(mistake, OmegaConfBaseException):
        if sentence := _explain_variable(mistake):
            return sentence
        return f"Expected values that the configuration can hold, got: {text}; correct them"
    return text


def _explain_variable(error: OmegaConfBaseException) -> str | None:
    """Return a sentence for a value that a variable of the environment has given; None: none has."""
    values = OmegaConf.to_container(error.parent_node) if isinstance(error.parent_node, DictConfig) else {}
    raw = str(values.get(error.key)) if isinstance(values, dict) else ""
    given = [name for name in re.findall(r"oc\.env:(\w+)", raw) if name in os.environ]
    if not given or not raw.startswith(DECODED):
        return None
    usual, got = raw.rpartition(",")[2].rstrip("}"), os.environ[given[0]]
    return f"Expected {given[0]} such as {usual}, for {error.full_key}, got {got!r}; correct it, or unset it"
