"""The end of a Hydra job by a user's mistake: its run folder, and the other jobs of a multirun."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import RunMode

from lstm_ts.configuration.explanations import describe_error
from lstm_ts.configuration.overrides import task_overrides
from lstm_ts.errors import MISTAKE, LstmTsError

log = logging.getLogger(__name__)


class JobRefused(Exception):
    """A job of a multirun ended in a user's mistake, which it has printed."""


class RefusedJob(JobReturn):
    """Result of a job whose error becomes one sentence: reading it raises the error."""

    @property  # type: ignore[misc]
    def return_value(self) -> Any:
        raise self._return_value


def mute_hydra(result: JobReturn) -> None:
    """Keep Hydra from printing a line of its own beside the one sentence of a job's error."""
    error = result._return_value
    if isinstance(error, JobRefused) or (isinstance(error, Exception) and describe_error(error)):
        result.__class__ = RefusedJob


@contextmanager
def isolated_job(hydra_node: Any) -> Iterator[None]:
    """Leave no folder of a multirun's job where a run of the command leaves none.

    Raises    JobRefused, instead of SystemExit, which would end the other jobs of a multirun
    """
    try:
        yield
    except SystemExit as ended:
        if hydra_node.mode != RunMode.MULTIRUN or ended.code != MISTAKE:
            raise
        raise JobRefused from None
    except Exception:
        if hydra_node.mode == RunMode.MULTIRUN:  # of which Hydra raises the first job's error alone
            log.exception("A job of the multirun has failed: %s", " ".join(task_overrides(hydra_node)))
        raise
    finally:
        if hydra_node.mode == RunMode.MULTIRUN and hydra_node.output_subdir is None:
            _remove_sweep_folder(hydra_node)


def _remove_sweep_folder(hydra_node: Any) -> None:
    """Remove what Hydra makes for the jobs of a command that has no run folder, with the last job their folder too."""
    sweep = Path(hydra_node.sweep.dir)
    with suppress(OSError):
        (sweep / "multirun.yaml").unlink(missing_ok=True)
        Path(hydra_node.runtime.output_dir).rmdir()
        sweep.rmdir()


@contextmanager
def removing_unused_folder(hydra_node: Any) -> Iterator[None]:
    """Remove the run folder of a command that ends in a user's mistake before it has written anything into it."""
    try:
        yield
    except LstmTsError:
        folder = Path(hydra_node.runtime.output_dir)
        hydras = {folder / f"{hydra_node.job.name}.log"}
        if hydra_node.output_subdir is not None:
            hydras |= set((folder / hydra_node.output_subdir).glob("*"))
            if {path for path in folder.rglob("*") if not path.is_dir()} <= hydras:
                shutil.rmtree(folder)
        raise
