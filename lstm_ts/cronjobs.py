"""`python -m lstm_ts.cronjobs`: the schedule of conf/pipeline.yaml as Kubernetes CronJobs, in YAML on stdout.

It takes the values of `lstm_ts.pipeline`. What pods have in common is added by deploy/k8s/base.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig

from lstm_ts.cli import entry_point, typed_overrides
from lstm_ts.errors import ConfigError
from lstm_ts.schedule.plan import Plan, asset_prefix, make_plan

IMAGE = "lstm_ts/jobs"  # replaced by kustomize
MACHINE = "LSTM_TS_MACHINE=${LSTM_TS_MACHINE:-cronjobs}"  # one name for all pods, whose host names differ
WATCH = "*/10 * * * *"  # check from outside that everything runs
LONGEST_NAME = 52  # of a CronJob: its Jobs append 11 characters
RETRAINING_IS_DUE = 3  # exit code of `lstm_ts.monitor`
KEEP_ON, REPORT_FAILURE = "|| failed=$?", "exit ${failed:-0}"  # what follows runs anyway, such as the monitor
MACROS = {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
PART = re.compile(r"(?:[*?]|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/[1-9]\d{0,2})?")  # of a field, between commas
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS = ((range(60), ()), (range(24), ()), (range(1, 32), ()), (range(1, 13), MONTHS), (range(7), DAYS))


class Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Scripts as blocks of lines."""


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def build_cronjobs(cfg: DictConfig, plan: Plan) -> Iterator[dict[str, Any]]:
    """Raises    ConfigError: a symbol that is too long for the name of a CronJob, or two of one name; no times"""
    check_times(cfg.cron)
    seconds = cfg.instance.run_monitoring.max_runtime_seconds
    if type(seconds) is not int or seconds < 1:
        raise ConfigError(f"Expected instance.run_monitoring.max_runtime_seconds of at least 1, got {seconds}")
    prefixes = {f"lstm-ts-{asset_prefix(each.name).replace('_', '-').lower()}": each for each in plan.symbols}
    if len(prefixes) < len(plan.symbols):
        raise ConfigError(
            f"Expected symbols whose CronJobs have different names, which are in lower case, "
            f"got symbols={[symbol.name for symbol in plan.symbols]}; rename one of them"
        )
    for prefix, symbol in prefixes.items():
        for name, schedule, script in build_scripts(cfg, plan, symbol.name):
            full_name = f"{prefix}-{name}"
            if len(full_name) > LONGEST_NAME:
                raise ConfigError(
                    f"Expected a symbol that fits into a CronJob's name of {LONGEST_NAME} characters, "
                    f"got {full_name}; rename {symbol.name}"
                )
            yield build_cronjob(cfg, full_name, schedule, script)


def check_times(times: Mapping[str, str]) -> None:
    """Raises    ConfigError: a schedule that Kubernetes refuses, or one of its `@every`"""
    for name, text in times.items():
        fields = str(text).lower().split()
        whole = len(fields) == len(FIELDS) and all(map(_is_field, fields, *zip(*FIELDS, strict=True)))
        if not whole and text not in MACROS:
            raise ConfigError(
                f"Expected cron.{name} as minute, hour, day, month and weekday (0 to 6, Sunday is 0), got {text!r}; "
                f"write it as in cron.{name}='30 0 * * *'"
            )


def _is_field(text: str, values: range, names: Sequence[str]) -> bool:
    """Return whether a field of cron holds `*`, `?`, values or spans, in numbers or names, each with any step."""
    known = {str(value): value for value in values} | dict(zip(names, values, strict=False))
    for part in text.split(","):
        found = PART.fullmatch(part)
        ends = [known.get(end.lstrip("0") or "0", -1) for end in found.groups() if end] if found else [-1]
        if -1 in ends or ends != sorted(ends):
            return False
    return True


def build_scripts(cfg: DictConfig, plan: Plan, symbol: str) -> Iterator[tuple[str, str | None, str]]:
    """Name, times (None: only by hand) and commands."""

    def command(step: str, *more: str, shell: str = "") -> str:
        return f"python -m lstm_ts.{step} {shlex.join(plan.command(step, symbol, *more))} {shell}".rstrip()

    ingest, process, retrain = command("ingest"), command("process"), command("retrain")

    def reporting(job: str) -> str:
        """Return the line that reports a script's exit code, and keeps it, even if the report fails under `set -e`."""
        return f"trap {shlex.quote(command('monitor', 'action=ended', f'job={job}', shell='code=$? || :'))} EXIT"

    retraining = reporting("retraining")
    drifted = f"( code=$?; [ $code = {RETRAINING_IS_DUE} ] || exit $code; {retraining}; {retrain} )"
    days = f"span.start=$(date -u -d '{cfg.look_back_days} days ago' +%F) span.end=$(date -u +%F) again=true"
    from_the_first_day = command("ingest", f"span.start={plan.first_day:%Y-%m-%d}")
    hourly = f"{ingest} {KEEP_ON}", f"{process} {KEEP_ON}", f"{command('monitor')} || {drifted}", REPORT_FAILURE
    yield "hourly", cfg.cron.hourly, _script(*hourly)
    yield "watch", WATCH, f"{MACHINE} {command('monitor', 'action=watch')}"
    nightly = reporting("nightly"), command("ingest", shell=f"{days} {KEEP_ON}"), process, REPORT_FAILURE
    yield "nightly", cfg.cron.nightly, _script(*nightly)
    yield "weekly", cfg.cron.weekly, _script(retraining, retrain)
    yield "first", None, _script(from_the_first_day, process, retrain)


def _script(*commands: str) -> str:
    return "\n".join(["set -e", *commands])


def build_cronjob(cfg: DictConfig, name: str, schedule: str | None, script: str) -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE, "command": ["/bin/sh", "-c"], "args": [script]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": schedule or cfg.cron.weekly,
            "timeZone": "Etc/UTC",
            **({"suspend": True} if schedule is None else {}),
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 1800,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": cfg.retries.most,
                    "activeDeadlineSeconds": cfg.instance.run_monitoring.max_runtime_seconds,
                    "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
                }
            },
        },
    }


@entry_point("cronjobs")
def main(cfg: DictConfig) -> None:
    overrides = typed_overrides()
    plan = make_plan(cfg, overrides)
    plan.check()
    jobs = list(build_cronjobs(cfg, plan))
    print(f"# Written by: python -m lstm_ts.cronjobs {shlex.join(overrides)}")
    print(yaml.dump_all(jobs, Dumper=Dumper, sort_keys=False, width=1000), end="")


if __name__ == "__main__":
    main()
