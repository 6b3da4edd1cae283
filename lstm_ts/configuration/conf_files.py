"""Keys, values and comments of the files of conf/, for `--help` and for the documentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CONF = Path(__file__).parents[1] / "conf"
UNREADABLE = (yaml.YAMLError, UnicodeDecodeError)


@dataclass(frozen=True)
class Setting:
    """One key of a YAML file, with the comment that explains it."""

    key: str
    value: str  # empty for a key with keys of its own
    target: str  # the class that its keys make, where there is one
    comment: str


def read_settings(path: Path) -> list[Setting]:
    """Return all keys of a file of conf/, without Hydra's own."""
    text = path.read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    comments = _read_comments(text)
    return list(_walk(root, "", text, comments))


def read_title(path: Path) -> str:
    """Return the comment that a file of conf/ begins with."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def read_defaults(path: Path) -> list[str]:
    """Return the files that a file includes: `project`, or a group with its file, such as `net=lstm`."""
    entries = (yaml.safe_load(path.read_text()) or {}).get("defaults", [])
    pairs = [entry if isinstance(entry, dict) else {entry: None} for entry in entries if entry != "_self_"]
    named = [(key.removeprefix("override ").lstrip("/"), value) for pair in pairs for key, value in pair.items()]
    return [key if value is None else f"{key}={value}" for key, value in named if not key.startswith("hydra/")]


def included_files(name: str) -> list[Path]:
    """Return the command's own file, and those that it includes; a file comes before those that it overrides."""
    path = CONF / f"{name}.yaml"
    included = [entry for entry in read_defaults(path) if "=" not in entry]
    return [path, *(file for entry in included for file in included_files(entry))]


def read_target(path: Path) -> str:
    """Return the class that the whole file makes; empty: there is none."""
    root = yaml.compose(path.read_text())
    return _target(root) if isinstance(root, yaml.MappingNode) else ""


def explain_file(error: yaml.YAMLError | UnicodeDecodeError, path: Path) -> str:
    """Return the sentence for a file that is no YAML."""
    if isinstance(error, UnicodeDecodeError):
        return f"Expected {path} in UTF-8, got {error.reason} at byte {error.start}; save it as UTF-8"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        message = ", ".join(filter(None, [error.context, error.problem]))
        return f"Expected YAML in {path}, got in line {error.problem_mark.line + 1}: {message}; correct it"
    return f"Expected YAML in {path}, got: {' '.join(str(error).split())}; correct it"


def _walk(node: yaml.MappingNode, prefix: str, text: str, comments: dict[int, str]) -> Iterator[Setting]:
    for key, value in node.value:
        if prefix == "" and key.value in ("defaults", "hydra"):
            continue
        if key.value == "_target_":
            continue
        name = f"{prefix}{key.value}"
        comment = comments.get(key.start_mark.line, "")
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield Setting(name, "", _target(value), comment)
            yield from _walk(value, f"{name}.", text, comments)
        else:
            yield Setting(name, " ".join(text[value.start_mark.index : value.end_mark.index].split()), "", comment)


def _target(node: yaml.MappingNode) -> str:
    return next((str(value.value) for key, value in node.value if key.value == "_target_"), "")


def _read_comments(text: str) -> dict[int, str]:
    """Return line of a key -> its comment: beside it, on indented lines below, or on lines of their own before it."""
    lines, found, last = text.splitlines(), dict[int, str](), 0
    above: list[str] = []
    ends = {token.end_mark.line: token.end_mark.column for token in yaml.scan(text) if _is_written(token)}
    for number, line in enumerate(lines):
        comment = line[ends.get(number, 0) :].strip().removeprefix("#").strip()
        if number in ends:
            found[number] = "; ".join(filter(None, [" ".join(above).rstrip("."), comment]))
            above, last = [], number
        elif line.startswith(" " * (_indent(lines[last]) + 3)):
            found[last] = f"{found.get(last, '')} {comment}".strip()
        else:
            above = [*above, comment] if comment and last else []
    return found


def _is_written(token: yaml.Token) -> bool:
    return bool(token.start_mark.index < token.end_mark.index)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
