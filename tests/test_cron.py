"""The schedules of deploy/: their commands are run as cron and Kubernetes run them."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from commands import succeed
from processes import ROOT
from test_pipeline import synthetic_minutes
from test_prometheus import program

from lstm_ts import cronjobs, monitor
from lstm_ts.cli import compose
from lstm_ts.errors import ConfigError
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.schedule.plan import make_plan
from lstm_ts.store.bar_store import BarStore

CRONTAB = ROOT / "deploy" / "cron" / "crontab"
CRONJOBS = ROOT / "deploy" / "k8s" / "base" / "cronjobs.yaml"
SOURCE = "source.start=2022-01-31 source.end=2022-02-05"


@dataclass(frozen=True)
class Example:
    variables: dict[str, str]
    commands: dict[str, str]  # by their times
    shell: str


def read_crontab(path: Path) -> Example:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assigned = (line.partition("=") for line in lines if re.match(r"\w+=", line))
    variables = {name: value.strip('"') for name, _, value in assigned}
    jobs = [re.fullmatch(r"((?:\S+ +){4}\S+)\s+(.*)", line) for line in lines if not re.match(r"\w+=", line)]
    commands = {job[1]: job[2].replace(r"\%", "%") for job in jobs if job}
    return Example(variables, commands, variables.get("SHELL", "/bin/sh"))


def read_kubernetes(text: str) -> Example:
    commands = {}
    for job in yaml.safe_load_all(text):
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert (container["command"], job["spec"]["timeZone"]) == (["/bin/sh", "-c"], "Etc/UTC")
        if not job["spec"].get("suspend"):
            commands[job["spec"]["schedule"]] = container["args"][0]
    return Example({}, commands, "/bin/sh")


def write_cronjobs(*overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_ts.cronjobs", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


EXAMPLES = {"crontab": read_crontab(CRONTAB), "kubernetes": read_kubernetes(CRONJOBS.read_text())}
HOURLY, WATCH, NIGHTLY, WEEKLY = EXAMPLES["crontab"].commands
ALL = "ingest process monitor retrain"


def test_cron_takes_the_crontab() -> None:
    crontab = program("crontab", "cron")
    if "dry run" not in subprocess.run([crontab, "-h"], capture_output=True, text=True, timeout=60).stderr:
        pytest.skip("This crontab is not Debian's: -n means something else")
    done = subprocess.run([crontab, "-n", CRONTAB], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_both_do_the_same_at_the_same_times() -> None:
    steps = {
        name: {at: re.findall(r"-m lstm_ts\.(\w+)", command) for at, command in example.commands.items()}
        for name, example in EXAMPLES.items()
    }
    assert steps["crontab"][HOURLY] == ["ingest", "process", "monitor", "monitor", "retrain"]
    assert len(steps["crontab"]) == 4
    assert steps["crontab"] == steps["kubernetes"]


@pytest.mark.slow
def test_the_cronjobs_are_those_that_their_first_line_writes() -> None:
    text = CRONJOBS.read_text()
    _, _, written_by = text.partition("\n")[0].partition("lstm_ts.cronjobs ")
    done = write_cronjobs(*shlex.split(written_by))
    assert done.stdout == text, done.stderr


@pytest.mark.slow
def test_each_symbol_has_cronjobs_of_its_own() -> None:
    done = write_cronjobs("symbols=[XAGUSD,SPY]", "first_day=2024-01-01", "cron.weekly=1 2 * * 0", "retries.most=7")
    jobs = list(yaml.safe_load_all(done.stdout))
    assert len({job["metadata"]["name"] for job in jobs}) == len(jobs) == 10
    weekly = next(job["spec"] for job in jobs if job["metadata"]["name"] == "lstm-ts-spy-weekly")
    assert (weekly["schedule"], weekly["jobTemplate"]["spec"]["backoffLimit"]) == ("1 2 * * 0", 7)


def test_a_text_of_each_symbol_stays_each_symbols_own(tmp_path: Path) -> None:
    of_symbol = ("paths.data=bars/${symbol.name}", "ingest='source=files source.paths=${symbol.name}.csv'")
    text = "\n".join(succeed("cronjobs", tmp_path, "symbols=[XAGUSD,XAUUSD]", *of_symbol))
    hourly = [job for job in yaml.safe_load_all(text) if job["metadata"]["name"].endswith("hourly")]
    for job, symbol in zip(hourly, ("XAGUSD", "XAUUSD"), strict=True):
        (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        _, *overrides = shlex.split(container["args"][0].splitlines()[1].partition("-m ")[2].partition(" || ")[0])
        cfg = compose("ingest", overrides)
        assert (cfg.source.paths, cfg.paths.data) == (f"{symbol}.csv", f"bars/{symbol}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("cron.hourly='99 * * * *'", "Expected cron.hourly as minute, hour, day, month and weekday"),
        ("cron.nightly='30 0 * * 7'", "Sunday is 0"),
        ("cron.nightly='5-1 0 * * *'", "cron.nightly"),
        ("cron.weekly=nonsense", "got 'nonsense'"),
        ("cron.weekly=''", "got ''"),
        ("cron={hourly:5}", "got 5"),
        ("symbols=[XAGUSD,xagusd]", "Expected symbols whose CronJobs have different names.*; rename one of them"),
        ("instance.run_monitoring.max_runtime_seconds=long", "max_runtime_seconds of at least 1, got long"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(override: str, words: str, tmp_path: Path) -> None:
    text = (ROOT / "lstm_ts/conf/symbol/XAGUSD.yaml").read_text()
    (tmp_path / "symbol").mkdir()
    (tmp_path / "symbol/xagusd.yaml").write_text(text.replace("name: XAGUSD", "name: xagusd"))
    overrides = [f"hydra.searchpath=['file://{tmp_path}']", override]
    cfg = compose("cronjobs", overrides)
    with pytest.raises(ConfigError, match=words):
        list(cronjobs.build_cronjobs(cfg, make_plan(cfg, overrides)))


def test_times_are_taken_in_each_form_of_cron() -> None:
    cronjobs.check_times(
        {"hourly": "*/10,5-7 * 1 JAN-mar 0", "daily": "1 2 ? * 1", "nightly": "00 06 * * SAT", "weekly": "@weekly"}
    )


def test_a_step_that_would_be_refused_is_refused_before_it_is_scheduled() -> None:
    done = write_cronjobs("first_day=2024-01-01", "ingest=source=nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Expected" in done.stderr


def test_a_retraining_follows_the_exit_code_that_asks_for_it() -> None:
    assert cronjobs.RETRAINING_IS_DUE == monitor.RETRAIN
    for example in EXAMPLES.values():
        assert f"[ $code = {monitor.RETRAIN} ]" in example.commands[HOURLY]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(
    ("times", "failing", "code", "job", "ended", "steps"),
    [(NIGHTLY, "ingest", 2, "nightly", 2, "ingest process"), (WEEKLY, "retrain", 1, "retraining", 1, "retrain"),
     (HOURLY, "retrain", 2, "retraining", 2, ALL), (WEEKLY, "nothing", 0, "retraining", 0, "retrain"),
     (HOURLY, "ingest", 2, "retraining", 0, ALL), (HOURLY, "process", 1, "retraining", 0, ALL)],
)  # fmt: skip
def test_the_end_of_a_run_is_told_and_its_exit_code_stays(
    name: str, times: str, failing: str, code: int, job: str, ended: int, steps: str, tmp_path: Path
) -> None:
    example = EXAMPLES[name]
    environment = os.environ | example.variables | {"LSTM_TS": str(tmp_path), "PYTHON": "python"}
    step = f'echo "$@"; case "$*" in *action=ended*) return 1;; *lstm_ts.monitor*) return {monitor.RETRAIN};; '
    shown = f"python() {{ {step} *lstm_ts.{failing}*) return {code};; esac; }}; {example.commands[times]}"
    command = [example.shell, "-c", shown]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    *ran, told = done.stdout.splitlines()
    assert [line.split()[1] for line in ran] == [f"lstm_ts.{step}" for step in steps.split()]
    assert set(told.split()) >= {"lstm_ts.monitor", "action=ended", f"job={job}", f"code={ended}", "symbol=XAGUSD"}


def test_both_keep_the_times_of_the_schedule() -> None:
    cron = compose("pipeline", []).cron
    assert (cron.hourly, cron.nightly, cron.weekly) == (HOURLY, NIGHTLY, WEEKLY)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_command_is_one_that_its_entry_point_takes(name: str, tmp_path: Path) -> None:
    example, look_back = EXAMPLES[name], compose("pipeline", []).look_back_days
    environment = os.environ | example.variables | {"LSTM_TS": str(tmp_path), "PYTHON": "python"}
    for command in example.commands.values():
        shown = f'python() {{ echo "$@"; }}; {command}'  # as the shell hands it over
        done = subprocess.run(
            [example.shell, "-c", shown], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        for line in done.stdout.splitlines():
            _, module, *overrides = line.split()
            cfg = compose(module.removeprefix("lstm_ts."), overrides)
            assert cfg.symbol.name == "XAGUSD"
            if "span.start" in line:
                assert datetime.fromisoformat(cfg.span.end) - datetime.fromisoformat(cfg.span.start) == timedelta(
                    days=look_back
                )


@pytest.mark.slow
def test_several_symbols_come_by_one_command_each_in_its_own_sessions(tmp_path: Path) -> None:
    at = f"-m symbol=XAGUSD,SPY paths.data={tmp_path}/data paths.outputs={tmp_path}/outputs"
    environment = os.environ | {"AT": at, "SOURCE": SOURCE, "LSTM_TS": str(ROOT), "PYTHON": sys.executable}
    command = EXAMPLES["crontab"].commands[HOURLY]
    subprocess.run(["/bin/bash", "-c", command], env=environment, check=True, capture_output=True, timeout=120)
    stores = {name: BarStore(tmp_path / "data/processed" / name, HOURLY_SCHEMA).read() for name in ("XAGUSD", "SPY")}
    assert {name: sorted({ts.hour for ts in hours["ts"]}) for name, hours in stores.items()} == {
        "XAGUSD": [hour for hour in range(24) if hour != 22],  # the break of silver's day
        "SPY": [14, 15, 16, 17, 18, 19, 20],
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crontab", "kubernetes"])
def test_bars_come_by_the_schedule_and_again_change_nothing(name: str, tmp_path: Path) -> None:
    written = write_cronjobs("first_day=2022-01-31", f"ingest='{SOURCE}'").stdout
    example = EXAMPLES["crontab"] if name == "crontab" else read_kubernetes(written)
    at = f"symbol=XAGUSD paths.data={tmp_path}/data paths.outputs={tmp_path}/outputs"
    environment = os.environ | {
        "AT": at, "SOURCE": SOURCE, "LSTM_TS": str(ROOT), "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [example.shell, "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    first, again = (run(example.commands[HOURLY]) for _ in range(2))
    assert first.returncode == 0, first.stderr
    truth = synthetic_minutes(*SOURCE.split())
    assert BarStore(tmp_path / "data/raw/XAGUSD", BAR_SCHEMA).read().equals(truth)
    hours = BarStore(tmp_path / "data/processed/XAGUSD", HOURLY_SCHEMA).read()
    assert hours.height > 90
    stored = [line.partition(": ")[2] for line in again.stdout.splitlines() if " new, " in line]
    assert stored == [f"0 new, {bars:,} the same, 0 revised" for bars in (truth.height, hours.height)]

    night = run(example.commands[NIGHTLY])  # of the days before now, of which this source has nothing
    assert night.returncode == 2, night.stderr
    assert "Expected bars from synthetic" in night.stderr
