"""README and docs: links resolve, commands and keys exist, and (slow) every block runs."""

import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import yaml
from documents import DOCUMENTS, RUN, Block, make_tree, masked, read_blocks, run_blocks, to_script
from processes import ROOT, child, free_port, output, python

from docs.hooks import rewrite_links
from lstm_ts.cli import compose
from lstm_ts.commands import COMMANDS
from lstm_ts.configuration.parts import CONF
from lstm_ts.market.session import Session
from lstm_ts.sources.synthetic import Synthetic

README = ROOT / "README.md"
SECONDS = 1800  # for the blocks of one document, on a busy machine
FLAGS = {"-m", "--cfg", "job", "--help"}
NAMES = {command.module: name for name, command in COMMANDS.items()}
HISTORY = ROOT / "docs/LOG.md"  # its commands and keys are those of their day
PROSE = [*DOCUMENTS, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "deploy").rglob("README.md"))]
BLOCKS = [block for path in DOCUMENTS for block in read_blocks(path)]
NOT_RUN = [block for block in BLOCKS if block.not_run]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Module and arguments of each `python -m`, and of each `lstm-ts`, in a shell block."""
    plain = re.sub(r"(^|\s)# .*$", "", text.replace("\\\n", " "), flags=re.M)
    split = shlex.shlex(plain, posix=True, punctuation_chars="();<>|&\n")
    split.whitespace, split.whitespace_split, split.commenters = " \t", True, ""
    words = [*split]
    for at, word in enumerate(words):
        arguments = list(itertools.takewhile(lambda word: not set(word) <= set("();<>|&\n"), words[at + 1 :]))
        if word == "python" and arguments[:1] == ["-m"]:
            yield arguments[1], arguments[2:]
        elif word == "lstm-ts" and arguments:
            yield COMMANDS[arguments[0]].module, arguments[1:]


@cache
def known_keys() -> set[str]:
    """Every dotted key of conf/, with the group's name before those of a group's file; and groups themselves."""

    def walk(node: object, prefix: str) -> Iterator[str]:
        for key, value in node.items() if isinstance(node, dict) else ():
            yield f"{prefix}{key}"
            yield from walk(value, f"{prefix}{key}.")

    found = {"hydra/launcher", "hydra/sweeper", "hydra.searchpath", "hydra.verbose"}
    for path in Path(CONF).rglob("*.yaml"):
        group = path.parent.relative_to(CONF).as_posix()
        text = path.read_text()
        whole = group == "." or "# @package _global_" in text
        found |= {*walk(yaml.safe_load(text), "" if whole else f"{group}."), group}
    return found


def check_command(module: str, arguments: list[str]) -> None:
    """Raises    AssertionError: there is no such command, or it has no such key or file of a group"""
    assert find_spec(module), f"Expected a module, got {module}"
    if module in NAMES and "--config-dir" not in arguments:
        for argument in arguments:
            key, _, value = argument.lstrip("+~").partition("=")
            assert argument in FLAGS or key in known_keys(), f"Expected a key of {NAMES[module]}, got {argument}"
            files = [Path(CONF) / key / f"{name}.yaml" for name in value.split(",")]
            assert not (Path(CONF) / key).is_dir() or all(map(Path.is_file, files)), f"no file for {argument}"


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub and mkdocs name them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def links(path: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    return [found[1] or found[2] for found in LINK.finditer(text)]


def words(text: str) -> int:
    """Those that a reader sees outside blocks and tables' rules."""
    return len([word for word in re.sub(r"<!--.*?-->", "", text, flags=re.S).split() if re.search(r"\w", word)])


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{path.name} links to {link}"


def test_the_readme_is_short() -> None:
    assert words(README.read_text()) <= 800


def test_the_readme_names_every_command() -> None:
    table = README.read_text().partition("## Commands")[2].partition("\n## ")[0]
    assert set(CODE.findall(table)) >= set(COMMANDS)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_are_at_most_120_characters(path: Path) -> None:
    if path != HISTORY:
        long = [line for line in path.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
        assert not long
    if path == README:
        assert max(map(len, README.read_text().splitlines())) <= 120


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "bash"], ids=lambda block: block.place
)
def test_a_command_of_a_block_exists_with_its_keys_and_groups(block: Block) -> None:
    for module, arguments in commands(block.text):
        check_command(module, [re.sub(r"\$\w+", "x", argument) for argument in arguments])
    for target in re.findall(r"^make ([a-z]+)", block.text, re.M):
        assert target in make_targets()


@pytest.mark.parametrize("block", [b for b in NOT_RUN if b.language == "bash"], ids=lambda block: block.place)
def test_the_commands_of_a_block_that_is_not_run_have_a_configuration(block: Block) -> None:
    for module, arguments in commands(block.text):
        compose(NAMES[module], [re.sub(r"\$\w+", "x", argument) for argument in arguments])


def make_targets() -> list[str]:
    return re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path != HISTORY], ids=lambda path: path.name)
def test_a_key_named_in_the_text_exists(path: Path) -> None:
    known = known_keys() | {"key", "group"}
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for code in CODE.findall(text):
        for module, arguments in commands(code) if re.match("python -m |lstm-ts [a-z]", code) else ():
            check_command(module, [a for a in arguments if "…" not in a and "$" not in a])
        if target := re.fullmatch(r"make ([a-z]+)", code):
            assert target[1] in make_targets()
        if found := re.match(r"\+?([a-z_]+(?:[./][a-z_]+)*)=(?!=)", code):
            assert found[1] in known, f"{path.name}: {code}"
        if re.fullmatch(r"conf/[\w/.]+", code):
            assert (ROOT / code).exists(), code


def test_few_blocks_cannot_run_and_each_says_why() -> None:
    assert len(NOT_RUN) <= 12, [block.place for block in NOT_RUN]
    assert all(len(block.not_run.split()) >= 3 for block in NOT_RUN)
    assert {block.language for block in BLOCKS} <= {*RUN, "text", "json"}


@pytest.mark.parametrize(
    "line", ["python -m lstm_ts.ingst", "python -m lstm_ts.ingest sourcee=files", "python -m lstm_ts.train net=lstmm"]
)
def test_a_wrong_command_is_found(line: str) -> None:
    ((module, arguments),) = commands(f"{line}  # a comment\n")
    with pytest.raises(AssertionError):
        check_command(module, arguments)


def test_a_command_is_read_to_where_it_ends() -> None:
    text = "model=$(tail -n 1 a)\npython -m lstm_ts.predict model=\"$model\" \\\n  reason='of two words' > a.json\n"
    assert [*commands(text)] == [("lstm_ts.predict", ["model=$model", "reason=of two words"])]


@pytest.mark.parametrize("text", ["false\necho after", "echo a | grep b\n", "python -c 'raise SystemExit(3)'"])
def test_a_block_that_fails_fails_its_document(text: str, tmp_path: Path) -> None:
    blocks = [
        Block("a.md", 1, "bash", "echo before\n"),
        Block("a.md", 5, "bash", text),
        Block("a.md", 9, "bash", "echo no"),
    ]
    done = run_blocks(blocks, tmp_path)
    assert done.returncode != 0
    assert done.stdout.splitlines()[:3] == ["== a.md:1", "before", "== a.md:5"]
    assert "a.md:9" not in done.stdout


def test_a_server_is_waited_for_and_ends_with_its_document(tmp_path: Path, unused_port: int) -> None:
    serve = f"exec python -m http.server --bind 127.0.0.1 {unused_port}\n"
    server = Block("a.md", 1, "bash", serve, server=f"http://127.0.0.1:{unused_port}")
    asking = Block("a.md", 4, "python", f"import httpx\nprint(httpx.get('{server.server}').status_code)\n")
    done = run_blocks([server, asking], tmp_path)
    assert done.returncode == 0 and "200" in done.stdout.splitlines(), done.stdout
    (tmp_path / "again").mkdir()
    assert run_blocks([server], tmp_path / "again").returncode == 0  # its port is free
    with socket.create_server(("127.0.0.1", unused_port)), pytest.raises(pytest.fail.Exception, match="to be free"):
        run_blocks([server], tmp_path)


@pytest.fixture
def unused_port() -> int:
    return free_port()


def test_a_document_that_hangs_is_stopped(tmp_path: Path) -> None:
    done = run_blocks([Block("a.md", 1, "bash", "sleep 600")], tmp_path, seconds=1)
    assert done.returncode != 0
    assert "stopped after 1 s" in done.stdout


def test_a_note_stands_before_its_block(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("<!-- not run: sends mail -->\n```bash\na\n```\nb\n```python\nc\n```\n")
    first, second = read_blocks(path)
    assert (first.not_run, first.text, first.line) == ("sends mail", "a\n", 2)
    assert (second.not_run, second.language) == ("", "python")
    assert "a.md:2" not in to_script([first, second])


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        ("index.md", "![a](docs/data.png)", "![a](data.png)"),
        ("index.md", "[a](docs/loop.md#the-gate) [b](LICENSE)", "[a](loop.md#the-gate) b"),
        (
            "loop.md",
            "[a](../ARCHITECTURE.md#x) [b](#c) [d](https://e.f)",
            "[a](ARCHITECTURE.md#x) [b](#c) [d](https://e.f)",
        ),
        ("deploy/monitoring/README.md", "[a](../../README.md)", "[a](../../index.md)"),
        ("loop.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
        ("loop.md", "[a](nowhere.md)", "[a](nowhere.md)"),
        ("loop.md", "[a](../lstm_ts/conf)", "[a](reference/groups.md)"),
    ],
)
def test_a_link_between_files_becomes_one_between_pages(page: str, text: str, there: str) -> None:
    pages = {"index.md", "loop.md", "data.png", "ARCHITECTURE.md", "deploy/monitoring/README.md", "reference/groups.md"}
    assert rewrite_links(text, page, pages) == there


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    command = python("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path)
    with child(command, stderr=subprocess.PIPE, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}) as process:
        assert output(process)[1] == ""
        assert process.returncode == 0
    pages = list(tmp_path.rglob("*.html"))
    loads = (
        r"<(?:script|img|iframe)[^>]*\ssrc=\"https?:[^\"]*|<link[^>]*rel=\"?(?:stylesheet|preconnect)[^>]*https?:[^>]*"
    )
    assert len(pages) > 20
    assert not [found for page in pages for found in re.findall(loads, page.read_text())]


def write_minutes(folder: Path) -> None:
    """A year of one's own: HistData's layout, a file a month, in New York's wall time."""
    folder.mkdir()
    start, end = datetime(2022, 1, 1), datetime(2023, 1, 1)
    session = Session(calendar="CMEGlobex_Silver", zone="America/New_York")
    source = Synthetic(
        session=session, start=str(start.date()), end=str(end.date()), seed=11, start_price=24.0, signal="silver",
        ar_coefficient=0.0,
    )  # fmt: skip
    bars = pl.concat(batch.bars for batch in source.read_batches())
    local = bars.with_columns(pl.col("ts").dt.convert_time_zone("America/New_York"), pl.col("volume").fill_null(0))
    for (month,), rows in local.group_by(pl.col("ts").dt.strftime("%Y-%m"), maintain_order=True):
        lines = rows.select(pl.col("ts").dt.strftime("%Y%m%d %H%M%S"), "open", "high", "low", "close", "volume")
        lines.write_csv(folder / f"{month}.csv", separator=";", include_header=False)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A reader's folder after the README, and what its commands wrote."""
    tree = make_tree(tmp_path_factory.mktemp("reader") / "lstm_ts")
    write_minutes(tree / "minutes")
    done = run_blocks(read_blocks(README), tree, seconds=SECONDS)
    assert done.returncode == 0, done.stdout[-6000:]
    return tree, done.stdout


@pytest.mark.slow
def test_the_readme_runs_and_shows_what_it_prints(walked: tuple[Path, str]) -> None:
    for block in read_blocks(README):
        for shown in re.split(r"^…$", block.text, flags=re.M) if block.language == "text" else ():
            assert masked(shown) in masked(walked[1]), shown


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path != README and any(b.language in RUN for b in read_blocks(path))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_the_blocks_of_a_document_run(path: Path, walked: tuple[Path, str], tmp_path: Path) -> None:
    tree = tmp_path / "lstm_ts"
    shutil.copytree(walked[0], tree, symlinks=True)
    done = run_blocks(read_blocks(path), tree, seconds=SECONDS)
    assert done.returncode == 0, done.stdout[-6000:]
