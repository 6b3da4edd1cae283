"""Hooks of mkdocs: pages made of files outside docs/, tables of the configuration, links that hold on both sides."""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lstm_ts.commands import COMMANDS
from lstm_ts.configuration.conf_files import Setting, read_defaults, read_settings, read_target, read_title

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {  # file of the repository -> page of the site
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "deploy/README.md": "deploy/README.md",
    "deploy/monitoring/README.md": "deploy/monitoring/README.md",
}
MADE = {
    "lstm_ts/conf": "reference/groups.md",
    "lstm_ts/commands.py": "reference/commands.md",
}  # by this module
COMMANDS_HEAD = """# Commands

Each command is a Python module with a file of settings, `conf/<command>.yaml` (in the package, `lstm_ts/conf`).
`key=value` changes a setting, `--help` tells a command's groups and settings, `--cfg job` prints the settings as they
are then. The tables below are made of the comments in these files.

`eval "$(lstm-ts -sc install=bash)"` has the shell complete commands, groups and keys after `lstm-ts` (by Hydra; `fish`
and `zsh` too); put it into `~/.bashrc` to keep it.

"""
GROUPS_HEAD = """# Configuration groups

A group is a folder of `conf/`; `group=file` selects one of its files. `symbol=XAUUSD` selects its file `XAUUSD.yaml`,
and `net.hidden=64` then changes one value of the group `net`. The tables below are made of the comments in these files.

"""
TABLE_HEAD = "\n| Key | Default | Meaning |\n|---|---|---|\n"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
SOURCE = re.compile(r'(src|href)="([^"]+)"')


def make_commands() -> str:
    """Markdown of the page of all commands."""
    parts = [COMMANDS_HEAD, _section("All commands", ROOT / "conf/project.yaml", "")]
    for name, command in COMMANDS.items():
        text = f"`python -m {command.module}`, or `lstm-ts {name}`: {command.summary}."
        parts.append(_section(name, ROOT / f"conf/{name}.yaml", text))
    return "\n".join(parts)


def make_groups() -> str:
    """Markdown of the page of all groups."""
    parts = [GROUPS_HEAD]
    for folder in sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra"):
        parts.append(f"## {folder.name}\n")
        parts += [_section(f"{folder.name}={path.stem}", path, "", level=3) for path in sorted(folder.glob("*.yaml"))]
    return "\n".join(parts)


def _section(title: str, path: Path, text: str, *, level: int = 2) -> str:
    head = "\n\n".join(filter(None, [f"{'#' * level} {title}", text, read_title(path), _includes(path)]))
    settings = read_settings(path)
    return f"{head}\n{TABLE_HEAD}{_rows(settings)}\n" if settings else f"{head}\n"


def _includes(path: Path) -> str:
    made = read_target(path)
    of = f"Class: `{made}`." if made else ""
    included = ", ".join(f"`{name}`" for name in read_defaults(path))
    return " ".join(filter(None, [of, f"Includes {included}." if included else ""]))


def _rows(settings: Sequence[Setting]) -> str:
    return "\n".join(f"| `{s.key}` | {_cell(s)} | {s.comment.replace('|', chr(92) + '|')} |" for s in settings)


def _cell(setting: Setting) -> str:
    if setting.value == "":
        return f"→ `{setting.target}`" if setting.target else ""
    return f"`{setting.value.replace('|', chr(92) + '|')}`"


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that are not files of docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "reference/commands.md", content=make_commands()))
    files.append(File.generated(config, "reference/groups.md", content=make_groups()))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Make links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    return rewrite_links(markdown, here, {file.src_uri for file in files})


def rewrite_links(markdown: str, page: str, pages: set[str]) -> str:
    """`page` is where the text will stand on the site; a link to a file that is no page becomes plain text."""
    sources = {page: source for source, page in PAGES.items()}
    folder = posixpath.dirname(sources.get(page, f"docs/{page}"))

    def place(target: str) -> str | None:
        """The link on the site; None where the target is no page."""
        if re.match(r"[a-z]+:|#", target):
            return target
        path, _, anchor = target.partition("#")
        source = posixpath.normpath(posixpath.join(folder, path))
        at = (PAGES | MADE).get(source, source.removeprefix("docs/"))
        if at not in pages and (ROOT / source).exists():
            return None
        return posixpath.relpath(at, posixpath.dirname(page) or ".") + (f"#{anchor}" if anchor else "")

    def link(found: re.Match[str]) -> str:
        to = place(found[3])
        return found[2] if to is None else f"{found[1]}[{found[2]}]({to})"

    def source(found: re.Match[str]) -> str:
        return f'{found[1]}="{place(found[2]) or found[2]}"'

    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else SOURCE.sub(source, LINK.sub(link, part)) for part in parts)
