"""Overrides, `key=value`, as text, and the values of their keys in the files of conf/."""

import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from lstm_ts.configuration.conf_files import CONF, included_files

EXPERIMENT = "experiment"
SYMBOL = "symbol"  # a group of one file each, which may lie in a folder of the user's own
UNCHECKED_GROUPS = {"hydra", "instance"}  # settings of Hydra and Dagster, which check them
PLAIN = re.compile(r"[\w./-]+")  # needs no quotes


def is_group(key: str) -> bool:
    return (CONF / key).is_dir()


def task_overrides(hydra_node: Any) -> list[str]:
    """Return a command line's overrides as typed: `${symbol.name}` is resolved by what each one configures."""
    return cast(list[str], OmegaConf.to_container(hydra_node.overrides.task))


def key_of(text: str) -> str:
    """Return the key of an override, without the + or ~ before it."""
    return text.partition("=")[0].lstrip("+~")


def value_of(text: str) -> str:
    return text.partition("=")[2]


def quote(value: str) -> str:
    """Quote a text for Hydra's grammar, whatever characters it has."""
    return '"' + re.sub(r'(\\*)"', r'\1\1\\"', re.sub(r"(\\+)$", r"\1\1", value)) + '"'


def to_overrides(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Convert Python values to overrides of a command line; a mapping's keys follow a dot."""
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


def as_typed(text: str) -> str:
    """Return the override with its value quoted, as one types it in a shell."""
    key, value = text.partition("=")[::2]
    if value.startswith("[") and value.endswith("]"):
        return shlex.quote(f"{key}=[{','.join(quote(item.strip()) for item in value[1:-1].split(','))}]")
    return shlex.quote(f"{key}={quote(value)}")


def parse(text: str) -> Override | None:
    """Parse an override; None: Hydra's grammar does not accept it."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, a mapping before its members, whose keys follow a dot."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")


def load(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file, unresolved."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    return cast(dict[str, Any], content) if isinstance(content, dict) else {}


def look_up(key: str, command: str, choices: Mapping[str, Any]) -> tuple[Path, Any] | None:
    """Return the file that names the key, and its value there; None: no file does."""
    group, _, rest = key.partition(".")
    if rest and choices.get(group):
        path = CONF / group / f"{choices[group]}.yaml"
        known = dict(flatten(load(path))) if path.is_file() else {}
        if rest in known:
            return path, known[rest]
    for path in included_files(command):
        known = dict(flatten(load(path)))
        if key in known:
            return path, known[key]
    return None
