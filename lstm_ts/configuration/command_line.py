"""The arguments of a command before Hydra takes them: each one `key=value` or a flag, or else what to type instead."""

import glob
import itertools
import os
import re
import shlex
from collections import deque
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString

from lstm_ts.configuration.conf_files import CONF
from lstm_ts.configuration.explanations import explain_group
from lstm_ts.configuration.overrides import SYMBOL, as_typed, is_group, key_of, look_up, parse, quote, value_of
from lstm_ts.errors import ConfigError
from lstm_ts.market.symbol import check_symbol

FLAGS = {"-h", "--help", "--hydra-help", "--version", "--resolve", "-r", "--run", "-m", "--multirun"}
SHOWN = ("job", "hydra", "all")  # by --cfg
FLAGS_WITH_VALUE = {"-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"}
FLAGS_WITH_VALUE |= {"-cd", "--config-dir", "--experimental-rerun", "-sc", "--shell-completion"}
INFO = ("-i", "--info")  # whose value may be left out
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
NEAR_FLAG = 0.8
PATHS = {"model", "bars", "source.paths", "paths.data", "paths.outputs", "to", "api_keys.file", "ckpt_path"}
PATHS |= {"folder", "home", "warm_start"}


def read_command_line(arguments: Sequence[str], command: str) -> list[str]:
    """The arguments for Hydra, with quotes around paths that its grammar would not take as they are.

    Raises    ConfigError: an argument that is neither a flag nor key=value, or no text
    """
    for word in arguments:
        if any("\ud800" <= character <= "\udfff" for character in word):  # of bytes that are none of UTF-8
            raise ConfigError(f"Expected arguments in UTF-8, got {word!a}; rename what it names, or give another one")
    flags: list[str] = []
    words: list[str] = []
    rest = deque(arguments)
    while rest:
        word = rest.popleft()
        name, equals, value = word.partition("=")
        if name in FLAGS:
            flags.append(word)
        elif name in INFO:
            value = value if equals else rest.popleft() if rest and rest[0] in INFOS else INFOS[0]
            _check_flag(name, value)
            flags.append(f"--info={value}")
        elif name in FLAGS_WITH_VALUE:
            value = value if equals else rest.popleft() if rest else ""
            _check_flag(name, value)
            flags += [word] if equals else [name, value]
        elif word.startswith("-"):
            raise ConfigError(_advise_on_dashes(word))
        else:
            words.append(word)
    if "--resolve" in flags and not {"-c", "--cfg", "-h", "--help"} & {flag.partition("=")[0] for flag in flags}:
        raise ConfigError("Expected --cfg job beside --resolve, got none; add it")
    words = _join_paths(words)
    return flags + [_read(word, words, command) for word in words]


def _advise_on_dashes(word: str) -> str:
    name = word.lstrip("-")
    flags = [flag for flag in {*FLAGS, *FLAGS_WITH_VALUE, *INFO} if flag.startswith("--")]
    if near := get_close_matches(f"--{name.partition('=')[0]}", flags, 1, NEAR_FLAG):
        return f"Expected a flag that exists, or key=value, got {word}; did you mean {near[0]}?"
    return f"Expected key=value, got {word}; write it without dashes: {name}{'' if '=' in name else '=…'}"


def _check_flag(name: str, value: str) -> None:
    """Raises    ConfigError: no value that the flag takes"""
    if name in ("-c", "--cfg") and value not in SHOWN:
        raise ConfigError(f"Expected {name} job, {name} hydra or {name} all, got {value or 'none'}")
    if name in INFO and value not in INFOS:
        raise ConfigError(f"Expected {name} with one of {', '.join(INFOS)}, got {value or 'none'}")
    if name in ("-cd", "--config-dir") and not Path(value).is_dir():
        raise ConfigError(f"Expected a folder after {name}, got {value or 'none'}; name one that exists")
    if name in ("-sc", "--shell-completion") and not re.match(r"(install|uninstall|query)=\w", value):
        raise ConfigError(f"Expected {name} install=bash, install=fish or install=zsh, got {value or 'none'}")


def _join_paths(words: Sequence[str]) -> list[str]:
    """The words, with those put together again that the shell has split a path at its blanks into."""
    joined: list[str] = []
    rest = list(words)
    while rest:
        pieces = list(itertools.takewhile(lambda word: "=" not in word and not word.startswith("~"), rest[1:]))
        counts = range(1 + len(pieces), 1, -1) if "=" in rest[0] else ()
        count = next((count for count in counts if _names_file(value_of(" ".join(rest[:count])))), 1)
        joined.append(" ".join(rest[:count]))
        rest = rest[count:]
    return joined


def _read(text: str, words: Sequence[str], command: str) -> str:
    key, value = key_of(text), value_of(text)
    if key in PATHS and value.startswith("~"):  # which shells expand only where it begins a word
        value = os.path.expanduser(value)  # noqa: PTH111 - it may be a glob
        text = f"{text.partition('=')[0]}={value}"
    if not text.strip():
        raise ConfigError("Expected key=value, got an empty argument; leave it out")
    if text.startswith("~") and not is_group(key):
        raise ConfigError(f"Expected a value for each key, got {text}, which deletes one; leave it out")
    if re.fullmatch(r"<[^<>]+>", value) and not _names_file(value):
        raise ConfigError(f"Expected a value for {key}, got {value}, a placeholder; replace it")
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(f"Expected key=value, got {text}; {_advise(text, words, command)}")
    if not key or key != key.strip() or (value != value.lstrip() and value.strip()):
        raise ConfigError(f"Expected key=value without blanks around =, got {text!r}; leave them out")
    parsed = parse(text)
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
    if parsed is not None and is_group(key) and not isinstance(parsed.value(), str | ChoiceSweep):
        raise ConfigError(explain_group(key, value))
    if parsed is not None and not (isinstance(parsed.value(), ChoiceSweep) and _names_file(value)):
        return text
    if _names_file(value) or (key in PATHS and not value.startswith("[")):
        return f"{text.partition('=')[0]}={quote(value)}"
    raise ConfigError(f"Expected a value in quotes where it has special characters, got {text}; type {as_typed(text)}")


def _read_symbol(text: str, parsed: Override) -> str:
    """Quote a symbol that is a number, such as 7203, which Hydra does not take for a file's name.

    Raises    ConfigError: no symbol
    """
    value: Any = parsed.value()
    if parsed.is_sweep_override() and not isinstance(value, ChoiceSweep):
        return text  # such as glob(*)
    number = isinstance(value, int | float)
    items = value.list if isinstance(value, ChoiceSweep) else [value_of(text) if number else value]
    names = [check_symbol(item.text if isinstance(item, QuotedString) else item) for item in items]
    plain = not number and all(isinstance(item, str | QuotedString) for item in items)
    return text if plain else f"{text.partition('=')[0]}={','.join(map(repr, names))}"


def _advise(text: str, words: Sequence[str], command: str) -> str:
    place = words.index(text)
    start = max((at for at in range(place) if "=" in words[at]), default=place)
    whole = is_group(key_of(words[start])) or _names_file(value_of(words[start])) or Path(text).exists()
    if start < place and not whole:
        end = next((at for at in range(place, len(words)) if "=" in words[at]), len(words))
        return f"if it belongs to the value before it, quote both: {as_typed(' '.join(words[start:end]))}"
    if (CONF / "experiment" / f"{text}.yaml").is_file():
        return f"write +experiment={text}"
    if Path(text).exists():
        option = "source=files source.paths" if command == "ingest" else "model" if Path(text).is_dir() else "bars"
        return f"write {option}={text}"
    if "/" in text or "*" in text:
        return f"write {'source.paths' if command == 'ingest' else '<option>'}={shlex.quote(text)}"
    if is_group(text) or look_up(text, command, {}):
        return f"write {text}=…"
    return f"write action={text}" if look_up("action", command, {}) else f"write {text}=…"


def _names_file(value: str) -> bool:
    try:
        return bool(value.strip()) and (Path(value).exists() or bool(glob.glob(value)))  # noqa: PTH207 (absolute, too)
    except (OSError, ValueError):  # too long for a name, or a null byte
        return False
