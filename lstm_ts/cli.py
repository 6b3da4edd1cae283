"""Common frame of the entry points: run Hydra, report a user's mistake in one sentence, keep stdout for results."""

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar, cast
from uuid import uuid4

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, configure_log, run_job
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lstm_ts import _end_by_signal, logs
from lstm_ts.commands import check_extras
from lstm_ts.configuration.command_help import describe_command, help_requested
from lstm_ts.configuration.command_line import read_command_line
from lstm_ts.configuration.explanations import describe_error, explained
from lstm_ts.configuration.job_end import JobRefused, isolated_job, mute_hydra, removing_unused_folder
from lstm_ts.configuration.overrides import key_of, task_overrides, value_of
from lstm_ts.configuration.parts import CONF
from lstm_ts.configuration.validation import check_configuration, check_names, check_single
from lstm_ts.errors import MISTAKE, ConfigError
from lstm_ts.lifetime import exit_without_reader, repeat_lost
from lstm_ts.processors import wait_passively

TRACEBACKS = "LSTM_TS_TRACEBACKS"  # what the user set HYDRA_FULL_ERROR to; worker processes inherit it
INTERRUPTED = 128 + signal.SIGINT
SEARCHPATH = "hydra.searchpath"
OWN_FOLDERS = ("command-line", "hydra.searchpath in command-line")  # Hydra's names of where a folder was named
HYDRA = RLock()
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], Result]], Callable[[], None]]:
    """`hydra.main`, but a user's mistake ends in one sentence and exit code 2.

    In a multirun each job reports its own mistake, and the others still run.
    `HYDRA_FULL_ERROR=1` shows the traceback instead.
    """

    def decorate(task: Callable[[DictConfig], Result]) -> Callable[[], None]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> Result:
            with isolated_job(HydraConfig.get()), _one_sentence():
                _take_over_log(cfg)
                check_configuration(cfg, HydraConfig.get())
                with removing_unused_folder(HydraConfig.get()), logs.log_context(**_log_fields(cfg, config_name)):
                    return task(cfg)

        def main() -> None:
            os.environ.setdefault(TRACEBACKS, os.environ.get("HYDRA_FULL_ERROR", "0"))
            logs.begin(_log_format(config_name, sys.argv[1:]), config_name)
            repeat_lost(signal.SIGINT, KeyboardInterrupt, sys.unraisablehook)
            logging.raiseExceptions = False  # a full disk under the log file is no reason for a traceback per line
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them
            with _one_sentence(), explained(config_name, sys.argv[1:]):
                if signal.getsignal(signal.SIGINT) is _end_by_signal:  # else it may be ignored
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                _handle_help(config_name)
                check_extras(config_name)
                sys.argv[1:] = read_command_line(sys.argv[1:], config_name)
                hydra.main(version_base="1.3", config_path=CONF, config_name=config_name)(job)()

        return main

    return decorate


class Checks(Callback):
    """Reject a configuration before Hydra makes a run folder for it; leave a refused job with one sentence."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with _one_sentence():  # Hydra continues after an exception of a callback, but not after SystemExit
            check_configuration(config, config.hydra)

    on_multirun_start = on_run_start

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        mute_hydra(job_return)


def check_arguments(config_name: str) -> None:
    """Answer --help, or report a mistake in this command line, before slow imports.

    Other options of Hydra, and sweeps, are left to `entry_point`.
    """
    wait_passively()
    logs.begin(_log_format(config_name, sys.argv[1:]), config_name)
    os.environ.setdefault(TRACEBACKS, os.environ.get("HYDRA_FULL_ERROR", "0"))
    with _one_sentence():
        _handle_help(config_name)
        if not any(argument.startswith(("-", "hydra.")) for argument in sys.argv[1:]):
            compose(config_name, sys.argv[1:])
        check_extras(config_name)


def _handle_help(config_name: str) -> None:
    if help_requested(sys.argv[1:]):
        print(describe_command(config_name, sys.argv[1:]), flush=True)
        sys.exit(0)


def _log_format(config_name: str, arguments: Sequence[str]) -> str:
    """Read `log` from this command line, or else the environment or the command's file, before Hydra does."""
    typed = [value_of(argument).strip("'\"") for argument in arguments if key_of(argument) == "log"]
    files = (OmegaConf.load(Path(CONF) / f"{name}.yaml") for name in (config_name, "project"))
    return typed[-1] if typed else next(str(file.log) for file in files if "log" in file)


def _take_over_log(cfg: DictConfig) -> None:
    """Take over the log that Hydra has set up; a JSON log allows no progress bar."""
    logs.take_over()
    if logs.are_json() and "trainer" in cfg:
        cfg.trainer.enable_progress_bar = False


def _log_fields(cfg: DictConfig, config_name: str | None) -> dict[str, Any]:
    """Return the fields of every line of a command's log: its symbol, if it is about one."""
    symbols = cfg.get("symbols") or [cfg.symbol.name]
    is_about_one = config_name not in ("alerts", "backup", "dashboard", "registry") and len(symbols) == 1
    return {"symbol": symbols[0]} if is_about_one else {}


def compose(config_name: str, overrides: Sequence[str], *, single: bool = False) -> DictConfig:
    """Return the configuration of a command line with these overrides, without running it.

    single    refuse a sweep
    Raises    ConfigError: a value is missing, of another kind, or no name; or an override fits nothing
    """
    try:
        with _own_hydra(config_name):
            cfg = _compose(config_name, overrides)
            check_configuration(cfg, cfg.hydra)
            if single:
                check_single(cfg.hydra)
    except OmegaConfBaseException as error:
        raise ConfigError(describe_error(error)) from error
    with open_dict(cfg):
        del cfg.hydra
    return cfg


@contextmanager
def _own_hydra(job_name: str) -> Iterator[None]:
    """Let Hydra, which is global to the process, read this package's files, one thread at a time; then restore it."""
    with HYDRA:
        others, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(CONF, version_base="1.3", job_name=job_name):
                yield
        finally:
            GlobalHydra.instance().hydra, VersionBase.instance().version_base = others, base


def _compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration with Hydra's own node."""
    with explained(config_name, overrides):
        return hydra.compose(config_name, read_command_line(overrides, config_name), return_hydra_config=True)


def run_command(config_name: str, task: Callable[[DictConfig], Result], overrides: Sequence[str]) -> Result:
    """Do what `python -m lstm_ts.<config_name> <overrides>` does, run folder included, with this process's logging."""
    with hydra.initialize_config_dir(CONF, version_base="1.3", job_name=config_name):
        config = _compose(config_name, overrides)
        check_configuration(config, config.hydra)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        with logs.log_context(command=config_name, run=uuid4().hex[:12], **_log_fields(config, config_name)):
            done = run_job(task, config, "hydra.run.dir", None, context, configure_logging=False)
    return cast(Result, done.return_value)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        with exit_without_reader():
            yield
    except JobRefused:
        sys.exit(MISTAKE)
    except (Exception, KeyboardInterrupt) as error:
        if _was_interrupted(error):
            log.warning("Stopped by Ctrl-C")
            sys.exit(INTERRUPTED)
        assert isinstance(error, Exception)
        sentence = describe_error(error)
        if sentence is None or os.environ.get(TRACEBACKS) == "1":
            raise
        logs.print_error(sentence)
        sys.exit(MISTAKE)


def _was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C came first: a library's clean-up after it may end in an error of its own."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def launch(cfg: DictConfig, task: Callable[[DictConfig], None], jobs: Sequence[Sequence[str]]) -> None:
    """Run `task` once per list of overrides, on top of this command's own, where `hydra/launcher` says: in
    processes here (joblib), on a cluster (ray), or one after the other (basic).

    Raises    the first error a job raised
    """
    hydra_node = HydraConfig.get()
    config = OmegaConf.create({"hydra": OmegaConf.to_container(hydra_node)})  # the launcher may write to it
    config.merge_with(cfg)
    OmegaConf.copy_cache(from_config=cfg, to_config=config)  # so that jobs lie in this run's folder
    context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=partial(_run_job, task), config=config
    )
    runs = launcher.launch([[*task_overrides(hydra_node), *job] for job in jobs], initial_job_idx=0)
    configure_log(cast(DictConfig, hydra_node.job_logging), hydra_node.verbose)  # a job here has closed the log
    for run in runs:
        mute_hydra(run)
        _ = run.return_value


def _run_job(task: Callable[[DictConfig], None], cfg: DictConfig) -> None:
    """Run a job as its command runs: names are text, though YAML reads a symbol such as 7203 as a number."""
    _take_over_log(cfg)
    check_names(cfg, HydraConfig.get().runtime.choices["symbol"])
    with logs.log_context(**_log_fields(cfg, HydraConfig.get().job.config_name)):
        task(cfg)


def typed_overrides() -> list[str]:
    """Return this command line's overrides, with one more for folders that it names by options of Hydra."""
    node = HydraConfig.get()
    folders = [source.path for source in node.runtime.config_sources if source.provider in OWN_FOLDERS]
    searched = [f"{SEARCHPATH}=[{','.join(repr(f'file://{folder}') for folder in folders)}]"] if folders else []
    return [*task_overrides(node), *searched]
