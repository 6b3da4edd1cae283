"""The commands as a user types them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import list_group, mistake, run, succeed
from processes import ROOT, WAIT_S, child, output, python, read_line, wait_for

from lstm_ts.cli import _one_sentence
from lstm_ts.commands import COMMANDS
from lstm_ts.errors import ConfigError
from lstm_ts.model.baselines import BASELINES
from lstm_ts.ports import check_port

TINY = (
    "tsteps=24",
    "horizon=6",
    "net.hidden=8",
    "net.decoder=8",
    "trainer.max_epochs=1",
    "spec.max_missing=6",
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight months of synthetic silver, ingested and processed."""
    folder = tmp_path_factory.mktemp("stored")
    succeed("ingest", folder, "source.start=2019-01-01", "source.end=2019-09-01")
    succeed("process", folder)
    return folder


@pytest.fixture(scope="module")
def trained(stored: Path) -> Path:
    """A model folder, from the last line of train."""
    return Path(succeed("train", stored, *TINY, "+experiment=quickstart")[-1])


def test_the_main_job_runs_from_minutes_to_a_forecast(stored: Path, trained: Path) -> None:
    scores_json = Path(succeed("evaluate", stored, f"model={trained}")[-1])
    scores = json.loads(scores_json.read_text())
    assert scores["symbol"] == "XAGUSD"
    assert set(scores["horizons"]["1"]["baselines"]) == set(BASELINES)
    forecasts = pl.read_parquet(scores_json.with_name("forecasts.parquet"))
    assert forecasts.height == 6 * scores["n"]
    assert forecasts.columns[:6] == ["origin_ts", "step", "target_ts", "last_close", "y", "q05"]
    assert (scores_json.with_name("report.html")).stat().st_size > 50_000
    lines = succeed("predict", stored, f"model={trained}")
    assert "persistence" in lines[1]
    assert lines[-1].startswith("In 6 session hours, by ")


def test_synthetic_bars_are_called_so_wherever_they_appear(stored: Path, trained: Path) -> None:
    label = "synthetic silver, seed 7"
    assert label in (stored / "data/raw/XAGUSD/manifest.json").read_text()
    assert label in (stored / "data/processed/XAGUSD/manifest.json").read_text()
    assert label in (trained / "manifest.json").read_text()
    assert label in (trained.parent / "scores/report.html").read_text()
    assert label in succeed("predict", stored, f"model={trained}")[0]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(stored: Path, trained: Path) -> None:
    again = Path(succeed("train", stored, *TINY, "+experiment=quickstart")[-1])
    assert again != trained
    assert (again / "weights.safetensors").read_bytes() == (trained / "weights.safetensors").read_bytes()


def read_hours(stored: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((stored / "data/processed/XAGUSD").glob("*.parquet"))])


@pytest.fixture(scope="module")
def csv(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last 60 hours of the store."""
    csv = tmp_path_factory.mktemp("hours") / "hours.csv"
    read_hours(stored).select(
        "open", "high", "low", "close", "volume", time=pl.col("ts").dt.to_string("%Y-%m-%d %H:%M:%S+00:00")
    ).tail(60).write_csv(csv)
    return csv


def test_a_model_keeps_the_closes_of_its_training_hours_and_predict_names_another_level(
    stored: Path, trained: Path, csv: Path, tmp_path: Path
) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())["symbols"]["XAGUSD"]
    until = datetime.fromisoformat(manifest["provenance"]["trained_until"])
    closes = read_hours(stored).filter(pl.col("ts") + timedelta(hours=1) <= until)["close"]
    assert manifest["closes"] == {"lowest": closes.min(), "highest": closes.max()}
    said = succeed("predict", tmp_path, f"model={trained}", f"bars={csv}", "price_factor=100")
    flag = r"Warning: another price level than .*: a close of .* is \d+ times as much as their highest, .*\."
    assert [line for line in said if re.fullmatch(flag, line)]


@pytest.mark.parametrize("option", ["zone=UTC", "stamps=close", "price_factor=0.01"])
def test_an_option_of_a_file_without_the_file_is_refused(stored: Path, trained: Path, option: str) -> None:
    said = mistake(run("predict", stored, f"model={trained}", option))
    assert said == f"Expected bars=<file> with {option}, got none; add it, or leave {option} out"


def test_predict_reads_a_file_and_prints_json(stored: Path, trained: Path, csv: Path, tmp_path: Path) -> None:
    asked = (f"model={trained}", f"bars={csv}", "format=json")
    without_store = json.loads("\n".join(succeed("predict", tmp_path, *asked)))
    assert without_store["season_day"] is None
    from_file = json.loads("\n".join(succeed("predict", stored, *asked)))
    assert from_file["season_day"] is not None
    from_store = json.loads("\n".join(succeed("predict", stored, f"model={trained}", "format=json")))
    assert from_file["path"][0]["target_ts"] == from_store["path"][0]["target_ts"]
    for ours, theirs in zip(from_file["path"], from_store["path"], strict=True):
        assert ours["quantiles"] == pytest.approx(theirs["quantiles"], abs=1e-6)
        assert ours["persistence"] == from_file["last_close"]
    other = mistake(run("predict", stored, *asked, "symbol=EURUSD"))
    assert other == "Expected a model of symbol=EURUSD, got one of XAGUSD; set symbol to that"


def test_predict_prints_the_request_that_asks_the_service_for_the_same(stored: Path, trained: Path) -> None:
    (line,) = succeed("predict", stored, f"model={trained}", "format=request")
    request = json.loads(line)
    assert request["symbol"] == "XAGUSD"
    hours = read_hours(stored).tail(len(request["bars"]))
    assert [datetime.fromisoformat(bar["ts"]) for bar in request["bars"]] == hours["ts"].to_list()
    assert mistake(run("predict", stored, f"model={trained}", "format=yaml")).startswith(
        "Expected format=table, json, r"
    )


def test_status_says_what_of_the_sessions_is_stored(stored: Path) -> None:
    said = succeed("ingest", stored, "action=status", "span.start=2019-03-01", "span.end=2019-05-01")
    assert said[0].startswith("XAGUSD, 2019-03-01 00:00 to 2019-05-01 00:00 UTC")
    assert [line.split()[0] for line in said[1:5]] == ["month", "2019-03", "2019-04", "total"]
    _, present, empty, waiting, unknown, *_ = (cell.replace(",", "") for cell in said[4].split())
    assert int(present) > 55_000 and int(waiting) > 0 and empty == unknown == "0"  # the seed is one observer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["action=statuses"], "Expected action=ingest or status, got statuses"),
        (["source=ib", "span.start=2999-01-01"], "span.start before span.end and before now"),
        (["source=ib", "source.client._target_=nowhere.IB"], "nowhere"),
        (["source=dukascopy", "source.base=127.0.0.1:8000"], "Expected source.base such as https://host/v1"),
        (["source=dukascopy", "source.pace_s=x"], "source.pace_s"),
        (["source=dukascopy", "source.retries.attempts=x"], "source.retries"),
        (["source=dukascopy", "symbol.feed_code=null"], "Expected symbol.feed_code as Dukascopy's code"),
        (["source=dukascopy", "source.base=http://127.0.0.1:1/v1", "span.start=2015-03-01"], "no connection to"),
        (["source=dukascopy", "max_reject_share=2"], "Expected max_reject_share of at least 0 and below 1, got 2"),
        (["source=ib", "max_reject_share=-1"], "Expected max_reject_share of at least 0 and below 1, got -1"),
    ],
)
def test_an_ingest_nobody_can_do_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    assert words in mistake(run("ingest", tmp_path, *arguments))
    assert not (tmp_path / "data").exists()


def test_ingesting_twice_changes_nothing(stored: Path) -> None:
    folder = stored / "data/raw/XAGUSD"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = succeed("ingest", stored, "source.start=2019-01-01", "source.end=2019-09-01")
    assert " 0 new, " in lines[0]
    assert lines[0].endswith("0 revised")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_real_and_synthetic_bars_never_share_a_store(stored: Path, tmp_path: Path) -> None:
    csv = tmp_path / "minutes.csv"
    csv.write_text("2019.03.05,10:00,15.1,15.2,15.0,15.1,7\n2019.03.05,10:01,15.1,15.2,15.0,15.1,7\n")
    done = run("ingest", stored, "source=files", f"source.paths={csv}", "source.zone=UTC")
    assert "synthetic and real bars never share a store" in mistake(done)


def test_results_go_to_stdout_and_the_log_to_stderr(stored: Path, trained: Path) -> None:
    done = run("evaluate", stored, f"model={trained}", "span.start=2019-07-20")
    assert "INFO" in done.stderr
    assert "INFO" not in done.stdout


def test_refused_jobs_of_a_multirun_say_one_sentence_each(tmp_path: Path) -> None:
    done = run("process", tmp_path, "-m", "symbol=XAGUSD,XAUUSD")
    said = [line for line in done.stderr.splitlines() if "Error" in line]
    assert done.returncode == 2 and ["Error: Expected bars" in line for line in said] == [True, True], done.stderr


@pytest.mark.slow
def test_one_symbols_mistake_stops_no_other_symbol(tmp_path: Path) -> None:
    succeed("ingest", tmp_path, "symbol=SPY", "source.start=2022-01-31", "source.end=2022-02-02")
    done = run("process", tmp_path, "-m", "symbol=XAGUSD,SPY,XAUUSD")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert ["XAGUSD" in said[0], "XAUUSD" in said[1], len(said)] == [True, True, 2]
    assert {path.parent.name for path in (tmp_path / "data/processed").rglob("*.parquet")} == {"SPY"}


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("ingest", ("source=files", "source.paths=nowhere.csv"), "Expected a file, or a glob that matches one"),
        ("ingest", ("source=files",), "Expected a value for source.paths"),
        ("ingest", ("source=files", "source.paths=README.md"), "Expected"),
        ("ingest", ("source=filess",), f"Expected source= with one of {list_group('source')}, got filess"),
        ("ingest", ("sourcee=files",), "did you mean source=files?"),
        ("ingest", ("symbol.session.zone=Mars/Base",), "Mars/Base"),
        ("process", (), "run python -m lstm_ts.ingest first"),
        ("train", (), "run python -m lstm_ts.process first"),
        ("predict", ("model=nowhere",), "Expected a model folder"),
        ("evaluate", ("model=nowhere",), "Expected a model folder"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    tmp_path: Path, command: str, arguments: tuple[str, ...], words: str
) -> None:
    done = run(command, tmp_path, *arguments)
    assert words in mistake(done)
    assert not list((tmp_path / "data").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("optimisation.lr=-1",), "Expected lr > 0"),
        (("optimisation.lr=1e99",), "Expected lr > 0 and <= 1"),
        (("horizon=1000000",), "Expected horizon of at most 100000, got 1000000"),
        (("split.valid_from=2030-01-01",), "in order after the first bar"),
        (("trainer.precision=3-bit",), "precision"),
        (("tsteps=20000",), "Expected at least 20012 session hours"),
        (("ckpt_path=last",), "Expected an interrupted run"),
        (("hydra.mode=MULTIRUN", "trainer.devices=2", "trainer.strategy=ddp"), "ddp_spawn or ddp_fork"),
        (
            ("split.test_from=2030-01-01", "optimisation.final_epochs=1"),
            "Expected bars of XAGUSD after split.test_from",
        ),
        (("net.hidden=many",), "Expected a whole number for net.hidden, got net.hidden=many"),
    ],
)
def test_a_value_out_of_range_is_named(stored: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("train", stored, "+experiment=quickstart", f"paths.outputs={stored}/wrong", *arguments)
    assert words in mistake(done)
    assert not list((stored / "wrong").rglob("model"))


@pytest.mark.parametrize("steps", ["[0]", "[7]", "[one]"])
def test_lightgbm_at_a_step_that_is_not_forecast_is_refused(stored: Path, trained: Path, steps: str) -> None:
    done = run("evaluate", stored, f"model={trained}", f"lightgbm_steps={steps}")
    assert "Expected lightgbm_steps within 1..6" in mistake(done)


@pytest.mark.slow
def test_garch_stands_in_the_table_at_every_step(stored: Path, trained: Path) -> None:
    lines = succeed("evaluate", stored, f"model={trained}", "garch=true")
    scores = json.loads(Path(lines[-1]).read_text())
    assert all(abs(horizon["skill"]["garch"]) < 0.2 for horizon in scores["horizons"].values())


@pytest.mark.slow
def test_lightgbm_stands_in_the_table_at_the_steps_asked_for(stored: Path, trained: Path) -> None:
    lines = succeed("evaluate", stored, f"model={trained}", "lightgbm_steps=[1]")
    scores = json.loads(Path(lines[-1]).read_text())
    assert "lightgbm" in scores["horizons"]["1"]["skill"]
    assert "lightgbm" not in scores["horizons"]["2"]["skill"]
    assert abs(scores["horizons"]["1"]["skill"]["lightgbm"]) < 0.2


def test_a_model_of_another_symbol_is_refused(stored: Path, trained: Path) -> None:
    shutil.copytree(stored / "data/processed/XAGUSD", stored / "data/processed/XAUUSD", dirs_exist_ok=True)
    assert "Expected a model of symbol=XAUUSD" in mistake(run("evaluate", stored, f"model={trained}", "symbol=XAUUSD"))


def test_a_span_without_bars_is_said(stored: Path, trained: Path) -> None:
    assert "got none among bars" in mistake(run("evaluate", stored, f"model={trained}", "span.start=2031-01-01"))


def test_a_span_that_ends_before_it_starts_is_said(stored: Path, trained: Path) -> None:
    said = mistake(run("evaluate", stored, f"model={trained}", "span.end=2019-01-01"))
    assert re.search(r"ends after its start \(\S+ \S+, the end of the model's bars\), got 2019-01-01", said)


ENTRY_POINTS = [command.module for command in COMMANDS.values()]
SLOW = {"torch", "lightning", "mlflow", "dagster", "litserve", "panel", "pandas", "matplotlib", "scipy", "sqlalchemy"}
RUN_ALL = """
import runpy, sys
outputs, slow, *modules = sys.argv[1:]
for module in modules:
    sys.argv = [module, f"paths.outputs={outputs}", "sourcee=files"]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        print(module, end.code, *(set(slow.split(",")) & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_wrong_argument_is_said_before_what_is_slow_is_imported(tmp_path: Path) -> None:
    command = python("-c", RUN_ALL, tmp_path, ",".join(SLOW), *ENTRY_POINTS)
    environment = os.environ | {"LSTM_TS_LOG": "text"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.splitlines() == [f"{module} 2" for module in ENTRY_POINTS], done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(ENTRY_POINTS)
    assert all(line.startswith("Error: ") and "sourcee" in line for line in said)


LIST = """
import runpy, sys
slow, *sys.argv = sys.argv[1:]
try:
    runpy.run_module("lstm_ts.registry", run_name="__main__", alter_sys=True)
finally:
    print(*(set(slow.split(",")) & set(sys.modules)))
"""


@pytest.mark.slow
def test_a_list_of_versions_imports_no_library_of_training_service_or_pages(tmp_path: Path, empty: Path) -> None:
    shutil.copytree(empty, tmp_path / "registry")
    slow = ",".join(SLOW - {"mlflow", "pandas", "scipy", "sqlalchemy"})  # MLflow, what it and the calendars import
    command = python("-c", LIST, slow, "registry", f"paths.outputs={tmp_path}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S)
    assert "registers a first version" in done.stderr  # the registry has been asked
    assert done.stdout.split() == []


def interrupt_import(command: Sequence[str | Path], module: str) -> None:
    """Send Ctrl-C once the module is imported: it ends the command without a traceback."""
    with child(python("-X", "importtime", *command), stderr=subprocess.PIPE) as importing:
        while module not in read_line(importing, importing.stderr):
            pass
        importing.send_signal(signal.SIGINT)
        _, said = output(importing)
    assert importing.returncode == -signal.SIGINT and "Traceback" not in said


@pytest.mark.parametrize(
    "command",
    [("-m", "lstm_ts.process"), ("-m", "dashboard.server"), (Path(sys.executable).with_name("lstm-ts"), "process")],
)
def test_ctrl_c_in_the_first_imports_leaves_no_traceback(command: tuple[str | Path, ...]) -> None:
    interrupt_import(command, "omegaconf.errors")


def test_ctrl_c_ends_a_command_that_has_just_imported_polars() -> None:
    """Polars 2.1 ignores it where SIG_DFL stood before."""
    interrupt_import(("-m", "lstm_ts.process"), "lstm_ts.market.schedule")


def test_ctrl_c_stays_as_it_is_in_a_program_that_imports_lstm_ts(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/__init__.py").write_text("import lstm_ts")
    (tmp_path / "own/job.py").write_text("import signal; print(signal.getsignal(signal.SIGINT).__name__)")
    done = subprocess.run(python("-m", "own.job"), cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout == "default_int_handler\n"


def test_ctrl_c_is_told_where_an_error_of_a_clean_up_follows_it() -> None:
    with pytest.raises(SystemExit) as ended, _one_sentence():
        try:
            raise KeyboardInterrupt
        finally:
            raise KeyError("of the clean-up")
    assert ended.value.code == 128 + signal.SIGINT


@pytest.mark.slow
def test_ctrl_c_leaves_no_traceback(tmp_path: Path) -> None:
    """Neither while libraries are imported nor at work."""
    paths = f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"
    command = ["-m", "lstm_ts.ingest", *paths, "source.start=2000-01-01", "source.end=2008-01-01"]
    interrupt_import(command, "sqlalchemy.engine")
    with child(python(*command), stderr=subprocess.PIPE) as working:
        wait_for((tmp_path / "outputs/registry/ledger.db").exists, process=working)
        working.send_signal(signal.SIGINT)
        _, said = output(working)
    assert working.returncode == 128 + signal.SIGINT and said.splitlines()[-1].endswith("Stopped by Ctrl-C")
    assert "Traceback" not in said


def test_a_traceback_is_shown_when_asked_for(tmp_path: Path) -> None:
    done = run("process", tmp_path, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr


def test_a_tampered_model_is_refused(stored: Path, trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "model")
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tsteps": 24', '"tsteps": 48', 1))
    assert "as it was saved, got other bytes" in mistake(run("predict", stored, f"model={copy}"))


@pytest.mark.parametrize("port", [0, 99999, 5006.5, "abc"])
def test_a_port_of_no_such_number_is_a_users_mistake(port: Any) -> None:
    with pytest.raises(ConfigError, match=rf"1\.\.65535, got {port}"):
        check_port("127.0.0.1", port)
