"""What a user can get wrong in `key=value`, and the sentence that says what to type instead.

`read_command_line` runs before Hydra, `explain` on what Hydra refuses, `check_values` on what it has accepted.
"""

import glob
import inspect
import itertools
import os
import re
import shlex
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from lstm_ts.errors import ConfigError
from lstm_ts.market.symbol import check_symbol

CONF = Path(__file__).parent / "conf"
FLAGS = {"-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run", "-m", "--multirun", "-i", "--info"}
FLAGS |= {"-sc", "--shell-completion"}
SHOWN = ("job", "hydra", "all")  # by --cfg
FLAGS_WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"}
FLAGS_WITH_VALUE |= {"-cd", "--config-dir", "--experimental-rerun"}
PATHS = {"model", "bars", "source.paths", "paths.data", "paths.outputs", "to", "api_keys.file", "ckpt_path"}
SYMBOL = "symbol"  # a group of one file each, which may lie in a folder of the user's own
TEMPLATE = CONF / SYMBOL / "XAGUSD.yaml"  # of a new one
FREE = {"hydra", "instance"}  # settings of Hydra and Dagster, which check them
OPEN = ("trainer.devices", "trainer.precision", "trainer.accelerator", "trainer.gradient_clip_val")  # Lightning checks
NEAR = 0.6
PLAIN = re.compile(r"[\w.-]+")  # needs no quotes
KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


def read_command_line(arguments: Sequence[str], command: str) -> list[str]:
    """The arguments for Hydra, with quotes around paths that its grammar would not take as they are.

    Raises    ConfigError: an argument that is neither a flag nor key=value
    """
    flags: list[str] = []
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word.partition("=")[0] in FLAGS | FLAGS_WITH_VALUE:
            flags += [word, *([next(rest, "")] if word in FLAGS_WITH_VALUE else [])]
            if word in ("-c", "--cfg") and flags[-1] not in SHOWN:
                raise ConfigError(f"Expected {word} job, {word} hydra or {word} all, got {flags[-1] or 'none'}")
        elif word.startswith("-"):
            name = word.lstrip("-")
            raise ConfigError(
                f"Expected key=value, got {word}; write it without dashes: {name}{'' if '=' in name else '=…'}"
            )
        else:
            words.append(word)
    words = _join_paths(words)
    return flags + [_read(word, words, command) for word in words]


def _join_paths(words: Sequence[str]) -> list[str]:
    """The words, with those put together again that the shell has split a path at its blanks into."""
    joined: list[str] = []
    rest = list(words)
    while rest:
        pieces = list(itertools.takewhile(lambda word: "=" not in word and not word.startswith("~"), rest[1:]))
        counts = range(1 + len(pieces), 1, -1) if "=" in rest[0] else ()
        count = next((count for count in counts if _names_file(_value(" ".join(rest[:count])))), 1)
        joined.append(" ".join(rest[:count]))
        rest = rest[count:]
    return joined


def _read(text: str, words: Sequence[str], command: str) -> str:
    key, value = _key(text), _value(text)
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(f"Expected key=value, got {text}; {_advise(text, words, command)}")
    if not key or key != key.strip() or (value != value.lstrip() and value.strip()):
        raise ConfigError(f"Expected key=value without blanks around =, got {text!r}; leave them out")
    parsed = _parse(text)
    if key == SYMBOL and parsed is not None and not parsed.is_delete():
        return _read_symbol(text, parsed)
    if re.search(r"\$\{symbol\}", value):
        raise ConfigError(f"Expected ${{symbol.name}} for the symbol's name, got {text}; write that")
    names = re.findall(r"\$\{(\w+)\}", value)
    if "${" in value and (parsed is None or any(name in os.environ for name in names)):
        raise ConfigError(
            f"Expected ${{…}} with the name of an option in it, got {text}; "
            f"write ${{oc.env:{names[0] if names else 'NAME'}}} for an environment variable, or leave it out"
        )
    if parsed is not None and (CONF / key).is_dir() and not isinstance(parsed._value, str | ChoiceSweep | QuotedString):
        raise ConfigError(explain_group(key, value))
    if parsed is not None and not (isinstance(parsed._value, ChoiceSweep) and _names_file(value)):
        return text
    if _names_file(value) or (key in PATHS and not value.startswith("[")):
        return f"{text.partition('=')[0]}={quote(value)}"
    raise ConfigError(f"Expected a value in quotes where it has special characters, got {text}; type {_typed(text)}")


def _read_symbol(text: str, parsed: Override) -> str:
    """Quote a symbol that is a number, such as 7203, which Hydra does not take for a file's name.

    Raises    ConfigError: no symbol
    """
    value: Any = parsed._value
    if parsed.is_sweep_override() and not isinstance(value, ChoiceSweep):
        return text  # such as glob(*)
    number = isinstance(value, int | float)
    items = value.list if isinstance(value, ChoiceSweep) else [_value(text) if number else value]
    names = [check_symbol(item.text if isinstance(item, QuotedString) else item) for item in items]
    plain = not number and all(isinstance(item, str | QuotedString) for item in items)
    return text if plain else f"{text.partition('=')[0]}={','.join(map(repr, names))}"


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


def _value(text: str) -> str:
    return text.partition("=")[2]


def _advise(text: str, words: Sequence[str], command: str) -> str:
    place = words.index(text)
    start = max((at for at in range(place) if "=" in words[at]), default=place)
    whole = (CONF / _key(words[start])).is_dir() or _names_file(_value(words[start])) or Path(text).exists()
    if start < place and not whole:
        end = next((at for at in range(place, len(words)) if "=" in words[at]), len(words))
        return f"if it belongs to the value before it, quote both: {_typed(' '.join(words[start:end]))}"
    if (CONF / "experiment" / f"{text}.yaml").is_file():
        return f"write +experiment={text}"
    if Path(text).exists():
        option = "source=files source.paths" if command == "ingest" else "model" if Path(text).is_dir() else "bars"
        return f"write {option}={text}"
    if "/" in text or "*" in text:
        return f"write {'source.paths' if command == 'ingest' else '<option>'}={shlex.quote(text)}"
    if (CONF / text).is_dir() or _look_up(text, command, {}):
        return f"write {text}=…"
    return f"write action={text}" if _look_up("action", command, {}) else f"write {text}=…"


def _names_file(value: str) -> bool:
    try:
        return bool(value.strip()) and (Path(value).exists() or bool(glob.glob(value)))  # noqa: PTH207 (absolute, too)
    except (OSError, ValueError):  # too long for a name, or a null byte
        return False


def quote(value: str) -> str:
    """The text as Hydra's grammar takes it, whatever is in it."""
    return '"' + re.sub(r'(\\*)"', r'\1\1\\"', re.sub(r"(\\+)$", r"\1\1", value)) + '"'


def to_overrides(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Python's values as a command line has them; a mapping's keys follow a dot."""
    found: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += to_overrides(value, f"{prefix}{key}.")
        else:
            found.append(f"{'+' * (key == 'experiment')}{prefix}{key}={_write(value)}")
    return found


def _write(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_write, value))}]"
    text = value.isoformat() if isinstance(value, date) else str(value)
    return text if PLAIN.fullmatch(text) else quote(text)


def _typed(text: str) -> str:
    """The override with its value quoted, as one types it in a shell."""
    key, value = text.partition("=")[::2]
    if value.startswith("[") and value.endswith("]"):
        return shlex.quote(f"{key}=[{','.join(quote(item.strip()) for item in value[1:-1].split(','))}]")
    return shlex.quote(f"{key}={quote(value)}")


def _parse(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def explain(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """What Hydra says of these overrides of `command`, as a sentence that names what exists and what to type."""
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        if found[1] == "experiment":
            return explain_group(found[1], _value(_find(overrides, found[1])))
        cfg = _compose(command, [text for text in overrides if _key(text) != found[1]])
        return unknown_key(found[1], _find(overrides, found[1]), cfg, command, cfg.hydra.runtime.choices)
    if found := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        cfg = _compose(command, overrides)
        return unknown_key(found[1], _find(overrides, found[1]), cfg, command, cfg.hydra.runtime.choices)
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        return explain_group(found[1], found[2], listed=re.findall(r"\n\t(\S+)(?=\n)", text.partition("Config se")[0]))
    if found := re.search(r"Ambiguous value for argument '(.+)'\n", text):
        key, value = found[1].partition("=")[::2]
        if (CONF / key).is_dir():
            return f"Expected one {key}, got {found[1]}; add -m to run once with each"
        return (
            f"Expected one value, got {found[1]}; write '{key}=[{value}]' for a list, {_typed(found[1])} for one text, "
            f"or add -m to run once with each"
        )
    if found := re.search(r"already at '([^']+)'", text) or re.search(r"Multiple values for (\w+)", text):
        return f"Expected {found[1]}=… without the +, since {found[1]} exists, got {_find(overrides, found[1])}"
    if found := re.search(r"(\S+) appears more than once", text):
        return f"Expected {found[1]} once, got {_find(overrides, found[1])} beside it; leave the + out"
    return f"Expected overrides that Hydra accepts, got: {' '.join(text.partition('To append')[0].split())}"


def _find(overrides: Sequence[str], key: str) -> str:
    return next((text for text in overrides if _key(text) == key), key)


def explain_group(group: str, got: str, *, listed: Sequence[str] = ()) -> str:
    """The sentence for a file that a group does not have.    listed    those that it has"""
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
    """The sentence for a key that `command` does not have: the nearest one, with its default value and its file."""
    known = {name: value for name, value in flatten(OmegaConf.to_container(cfg)) if name != key}
    known = {name: value for name, value in known.items() if name.split(".")[0] not in FREE}
    if found := _takes(cfg, key):
        return f"Expected a key of {command}, got {got}; {found} has it all the same: write +{got.lstrip('+')}"
    if _likeness(key, "experiment") > NEAR:
        return f"Expected a key of {command}, got {got}; did you mean +experiment={_value(got)}?"
    last = key.rpartition(".")[2]
    near = last if last in known else max(known, key=lambda name: _likeness(key, name))
    if _likeness(key, near) < NEAR:
        keys = ", ".join(name for name in sorted(known) if "." not in name and not key.startswith(f"{name}."))
        return f"Expected a key of {command}, got {got}; its keys are {keys} (--cfg job shows all with their values)"
    if near in choices:
        return f"Expected a key of {command}, got {got}; did you mean {near}={choices[near]}?"
    while isinstance(known[near], dict) and known[near].keys() - {"_target_"}:
        near = f"{near}.{next(name for name in known[near] if not name.startswith('_'))}"
    found_at = _look_up(near, command, choices)
    where = f" ({found_at[0].relative_to(CONF.parent)})" if found_at else ""
    return f"Expected a key of {command}, got {got}; did you mean {near}={_shown(known[near])}{where}?"


def _shown(value: Any) -> str:
    """The value as one types it."""
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return "…" if value == "???" else str(value)


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose with those overrides that choose an existing file of a group."""
    groups = [text for text in overrides if (CONF / _key(text)).is_dir() and not text.startswith("~")]
    chosen = [text for text in groups if (CONF / _key(text) / f"{_value(text)}.yaml").is_file()]
    with ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():
            stack.enter_context(hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name=command))
        return hydra.compose(command, chosen, return_hydra_config=True)


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")


def _likeness(key: str, name: str) -> float:
    """Likeness of two keys within 0..1: of the whole, and of what follows the last dot."""
    pairs = ((key, name), (key.rpartition(".")[2], name.rpartition(".")[2]))
    return sum(SequenceMatcher(None, *pair).ratio() for pair in pairs) / 2


def _takes(cfg: DictConfig, key: str) -> str | None:
    """The class of another library that takes the key as a parameter, where its node does not name it."""
    parent, _, name = key.rpartition(".")
    target = OmegaConf.select(cfg, f"{parent}._target_") if parent else None
    if not target or target.startswith("lstm_ts."):
        return None
    return target if name in inspect.signature(get_object(target)).parameters else None


def _look_up(key: str, command: str, choices: Mapping[str, Any]) -> tuple[Path, Any] | None:
    """The file that names the key, and its value there."""
    group, _, rest = key.partition(".")
    if rest and choices.get(group):
        path = CONF / group / f"{choices[group]}.yaml"
        known = dict(flatten(OmegaConf.to_container(OmegaConf.load(path)))) if path.is_file() else {}
        if rest in known:
            return path, known[rest]
    for path in _primary_files(command):
        known = dict(flatten(OmegaConf.to_container(OmegaConf.load(path))))
        if key in known:
            return path, known[key]
    return None


def _primary_files(command: str) -> Iterator[Path]:
    path = CONF / f"{command}.yaml"
    yield path
    for item in cast(DictConfig, OmegaConf.load(path)).get("defaults", ()):
        if isinstance(item, str) and item != "_self_":
            yield from _primary_files(item)


def explain_parameter(error: Exception, target: str) -> str:
    """What a class says of the values under its node, as a sentence."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if not found:
        return f"Expected values that {target} accepts, got: {error}"
    names = sorted(inspect.signature(get_object(target)).parameters)
    near = max(names, key=lambda name: _likeness(found[1], name))
    return f"Expected parameters of {target}, got {found[1]}; the nearest is {near}"


def check_values(cfg: DictConfig, command: str, overrides: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Refuse values of another kind than their key has, and keys that nothing reads; take numbers as text for text.

    Raises    ConfigError
    """
    for text in overrides:
        key = _key(text)
        parsed = _parse(text)
        if parsed is None or parsed.is_delete() or (CONF / key).is_dir() or key.split(".")[0].split("/")[0] in FREE:
            continue
        found = _look_up(key, command, choices)
        if found is None:
            if not _is_read(cfg, key):
                raise ConfigError(unknown_key(key, text, cfg, command, choices))
            continue
        _check_value(cfg, key, found[1], text)


def _is_read(cfg: DictConfig, key: str) -> bool:
    """Whether the key lies in a node that a class is made of, which knows its parameters."""
    parents = key.split(".")[:-1]
    nodes = [OmegaConf.select(cfg, ".".join(parents[: depth + 1])) for depth in range(len(parents))]
    return any(isinstance(node, DictConfig) and "_target_" in node for node in nodes)


def _check_value(cfg: DictConfig, key: str, default: Any, text: str) -> None:
    parent, _, name = key.rpartition(".")
    holder = OmegaConf.select(cfg, parent) if parent else cfg
    if isinstance(default, dict) and not isinstance(OmegaConf.select(cfg, key), DictConfig):
        own = [option for option in default if not option.startswith("_")]
        options = ", ".join(f"{key}.{option}" for option in own or default)
        raise ConfigError(f"Expected a value for one of {options}, got {text}; set that")
    if not isinstance(holder, DictConfig) or isinstance(default, dict) or "${" in _value(text):
        return
    value = holder[name] if not OmegaConf.is_missing(holder, name) else None
    if isinstance(default, str) and default.startswith("${oc.decode:"):  # a number that the environment may give
        default = OmegaConf.create({name: default})[name]
    default = float(default) if name.endswith("_s") and type(default) is int else default  # parts of a second count
    if _fits(value, default) or key.startswith(OPEN) or type(value) in _allowed(holder, name):
        return
    if isinstance(default, str) and isinstance(value, int | float):
        OmegaConf.update(cfg, key, _value(text))
        return
    kind = next((words for known, words in KINDS.items() if type(default) is known), "text")
    if isinstance(default, list) and (not default or "${" in str(default)):
        default = [_value(text)]
    raise ConfigError(f"Expected {kind} for {key}, got {text}; write it as in {key}={_shown(default)}")


def _fits(value: Any, default: Any) -> bool:
    if default is None or default == "???" or (isinstance(default, str) and "${" in default):
        return True
    if isinstance(default, list):
        return OmegaConf.is_list(value)
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)


def _allowed(holder: DictConfig, name: str) -> set[type]:
    """The types that the parameter of one of our classes takes."""
    target = str(holder.get("_target_", ""))
    if not target.startswith(("lstm_ts.", "serve.")):
        return set()
    made = get_object(target)
    hint: Any = typing.get_type_hints(vars(made)["__init__"] if isinstance(made, type) else made).get(name)
    return set(typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint])
