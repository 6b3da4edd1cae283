"""`--help` of a command, made of its files in conf/ alone: printed before Hydra runs and slow modules are imported."""

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lstm_ts.commands import COMMANDS
from lstm_ts.configuration.conf_files import CONF, Setting, included_files, read_defaults, read_settings

FLAGS = {"-h", "--help"}
EXPERIMENT = "experiment"
NARROWEST, WIDEST = 72, 120  # columns
MEANING = 38  # the column where meanings begin
FOOTER = """\
--cfg job     all values, as the other arguments set them
-m            a run for each of several values, such as seed=0,1,2
--hydra-help  options of Hydra, such as --config-dir and --shell-completion"""


def help_requested(arguments: Sequence[str]) -> bool:
    return not FLAGS.isdisjoint(arguments)


def describe_command(name: str, arguments: Sequence[str], columns: int | None = None) -> str:
    """Return the help text.    arguments   the others on the command line: a group's file shows its own values"""
    width = min(max(columns or shutil.get_terminal_size((100, 24)).columns, NARROWEST), WIDEST)
    command, files = COMMANDS[name], included_files(name)
    typed = dict(text.split("=", 1) for text in arguments if "=" in text)
    chosen = {group: typed.get(group, file) for group, file in _default_groups(files).items()}
    blocks = [
        f"{name}: {command.summary}.\n{command.details}",
        f"Example; `lstm-ts {name}` is short for `python -m {command.module}`:\n  lstm-ts {name} {command.example}",
        "\n".join(["Groups, group=file; the default comes first:", *_describe_groups(files, chosen, width)]),
        "\n".join(["Values, key=value:", *_describe_values(files, chosen, width)]),
        FOOTER,
    ]
    return "\n\n".join(blocks)


def _default_groups(files: Sequence[Path]) -> dict[str, str]:
    """Return the default file of each group, except of groups that the command sets to another value."""
    entries = [entry.split("=") for file in files for entry in read_defaults(file) if "=" in entry]
    written = {setting.key for file in files for setting in read_settings(file) if setting.value}
    found: dict[str, str] = {}
    for group, file in entries:
        if group not in written:
            found.setdefault(group, file)
    return found


def _describe_groups(files: Sequence[Path], chosen: Mapping[str, str], width: int) -> Iterator[str]:
    first = _default_groups(files)
    options = {group: [first[group], *sorted(_names(group) - {first[group]})] for group in chosen}
    if "train" in {file.stem for file in files}:
        options[f"+{EXPERIMENT}"] = sorted(_names(EXPERIMENT))
    for group, names in options.items():
        yield from _columns(f"  {group}", ", ".join(names), 18, width)


def _names(group: str) -> set[str]:
    return {path.stem for path in (CONF / group).glob("*.yaml")}


def _describe_values(files: Sequence[Path], chosen: Mapping[str, str], width: int) -> Iterator[str]:
    for setting in _all_settings(files, chosen):
        left = f"  {setting.key}{'=' * bool(setting.value)}{setting.value}"
        left = left if len(left) <= width else f"{left[: width - 1]}…"
        yield from _columns(left, setting.comment, MEANING, width)


def _all_settings(files: Sequence[Path], chosen: Mapping[str, str]) -> list[Setting]:
    """Return each key once, with the value of the first file and the first comment that is not empty."""
    found: dict[str, Setting] = {}
    own = [read_settings(file) for file in files]
    groups = [_read_group(group, file) for group, file in chosen.items()]
    for setting in (setting for part in (*own[:-1], *groups, own[-1]) for setting in part):
        known = found.setdefault(setting.key, setting)
        if not known.comment:
            found[setting.key] = Setting(known.key, known.value, known.target, setting.comment)
    return [setting for setting in found.values() if setting.value or setting.comment]


def _read_group(group: str, file: str) -> Iterator[Setting]:
    path = CONF / group / f"{file}.yaml"
    for setting in read_settings(path) if path.is_file() else ():
        yield Setting(f"{group}.{setting.key}", setting.value, setting.target, setting.comment)


def _columns(left: str, right: str, start: int, width: int) -> list[str]:
    """Return the lines of the text beside the left column, or below it if that column is too long."""
    lines = textwrap.wrap(right, width - start) or [""]
    if len(left) >= start - 1:
        return [left, *(" " * start + line for line in lines if line)]
    return [f"{left:<{start}}{lines[0]}".rstrip(), *(" " * start + line for line in lines[1:])]
