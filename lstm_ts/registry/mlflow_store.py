"""Store of versions: MLflow's tracking and model registry, at any URI of MLflow's. Only this module imports MLflow.

A version is one run (`model/`, `gate.json`, params, metrics) and one row that is added once the run is whole:
a process killed before that row leaves no version. A version is never changed; its run gets metrics of each day.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy.exc import SQLAlchemyError

from lstm_ts.errors import RegistryError
from lstm_ts.registry.uri import ARTIFACTS, check_there, find_source, hide_password, is_elsewhere, sqlite_path
from lstm_ts.registry.version import GATE_SHA256, MODEL, Version, describe
from lstm_ts.store.disk import hash_file

for setting, value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # seconds, not MLflow's four minutes, until a server counts as unreachable
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}.items():
    os.environ.setdefault(setting, value)  # MLflow reads some of them while it is imported

from mlflow import MlflowClient  # noqa: E402
from mlflow.artifacts import download_artifacts  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.db import utils as mlflow_database  # noqa: E402

mlflow_database.MAX_RETRY_COUNT = 4  # a second, not MLflow's hundred, until a database counts as unreachable

GATE = "gate.json"
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for a name, version or alias it lacks
TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # its page opens on runs, not on chat traces
EXISTS = "RESOURCE_ALREADY_EXISTS"
EPOCH = date(1970, 1, 1)
MAX_NUMBER = 2**31 - 1  # of a version, in a database
MOST_METRICS = 1000  # in one call, by MLflow
BACKGROUND = re.compile(r"\(Background on this error at: \S+\)")  # SQLAlchemy's

log = logging.getLogger(__name__)


class MlflowStore:
    def __init__(self, uri: str) -> None:
        """Open the store; create a SQLite file that does not exist.    Raises    RegistryError: no answer"""
        self._uri, self._path, self._file = uri, sqlite_path(uri), 0
        with self._answering():
            if self._path and not self._path.exists():
                _make_database(self._path)
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._file = check_there(uri)

    def add(
        self,
        name: str,
        model: Path,
        *,
        gate: Mapping[str, Any],
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
    ) -> Version:
        report = json.dumps(gate, indent=1, allow_nan=False)
        tags = {**tags, GATE_SHA256: hashlib.sha256(report.encode()).hexdigest()}
        with self._answering():
            run = self._client.create_run(self._experiment(name), run_name=f"{name} until {tags['data_end'][:10]}").info
            self._client.log_batch(
                run.run_id,
                metrics=[Metric(key, value, run.start_time, 0) for key, value in metrics.items()],
                params=[Param(key, str(value)) for key, value in params.items()],
            )
            self._client.log_artifacts(run.run_id, str(model), MODEL)
            self._client.log_text(run.run_id, report, GATE)
            self._client.set_terminated(run.run_id)
            with _ignoring(EXISTS):
                self._client.create_registered_model(name)
            made = self._client.create_model_version(
                name, f"{run.artifact_uri}/{MODEL}", run.run_id, tags=tags, description=describe(tags, gate)
            )
        return self._read_version(made, ())

    def _experiment(self, name: str) -> str:
        """Return the id of the MLflow experiment that keeps the name's models here; create it if needed.

        MLflow never changes an experiment's folder: a registry that was moved or copied begins another experiment.
        """
        location = (self._path.parent / ARTIFACTS / name).resolve().as_uri() if self._path else None
        title, found = name, self._client.get_experiment_by_name(name)
        if found and self._path and is_elsewhere(found.artifact_location, location):
            title = f"{name} in {self._path.parent.resolve()}"
            found = self._client.get_experiment_by_name(title)
        if found:
            return str(found.experiment_id)
        served = self._uri.startswith(("http://", "https://"))
        if not self._path and not served:  # a bare database: MLflow would take ./mlruns
            raise RegistryError(
                f"Expected an MLflow experiment {name} that says where models are kept, got none in "
                f"{hide_password(self._uri)}; make it with `mlflow experiments create -n {name} -l <folder or bucket>`"
            )
        with _ignoring(EXISTS):
            return self._client.create_experiment(title, artifact_location=location, tags=TRAINING)
        return self._experiment(name)

    def _read_version(self, found: Any, aliases: Iterable[str]) -> Version:
        created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
        tags = {key: value or "" for key, value in found.tags.items()}
        source = find_source(found.source, self._path)
        return Version(found.name, int(found.version), created, source, found.run_id, tuple(aliases), tags)

    def names(self) -> list[str]:
        """Return the names with a version: a registration that was killed leaves a name without one."""
        with self._answering():
            return sorted({version.name for version in _list_versions(self._client)})

    def aliases(self, name: str) -> dict[str, int]:
        """Return version numbers by alias; none for a name that is not registered."""
        with self._answering(), _ignoring(*UNKNOWN):
            return {alias: int(v) for alias, v in self._client.get_registered_model(name).aliases.items()}
        return {}

    def versions(self, name: str) -> list[Version]:
        """Return the versions, oldest first; none for a name that is not registered."""
        aliases, found = self.aliases(name), []
        with self._answering(), _ignoring(*UNKNOWN):
            found = _list_versions(self._client, f"name = '{name}'")
        versions = [
            self._read_version(v, [a for a, number in aliases.items() if number == int(v.version)]) for v in found
        ]
        return sorted(versions, key=lambda version: version.number)

    def find(self, name: str, ref: int | str) -> Version | None:
        """Find a version by number or alias; None: there is none."""
        if str(ref).isdecimal() and int(ref) > MAX_NUMBER:
            return None
        client = self._client
        ask = client.get_model_version if str(ref).isdecimal() else client.get_model_version_by_alias
        with self._answering(), _ignoring(*UNKNOWN):
            found = ask(name, str(ref))
            return self._read_version(found, found.aliases)
        return None

    def metrics(self, version: Version) -> Mapping[str, float]:
        with self._answering():
            found: Mapping[str, float] = self._client.get_run(version.run_id).data.metrics
        return found

    def log_daily(self, version: Version, metrics: Mapping[date, Mapping[str, float]]) -> None:
        """Add metrics to the version's run at the steps of their days, in days since 1970; an existing one stays."""
        with self._answering():
            keys = {key for values in metrics.values() for key in values}
            history = self._client.get_metric_history
            there = {(key, metric.step) for key in keys for metric in history(version.run_id, key)}
            made = [_make_metric(key, value, day) for day in sorted(metrics) for key, value in metrics[day].items()]
            new = [metric for metric in made if (metric.key, metric.step) not in there]
            for start in range(0, len(new), MOST_METRICS):
                self._client.log_batch(version.run_id, metrics=new[start : start + MOST_METRICS])

    def read_gate(self, version: Version) -> Mapping[str, Any]:
        """Raises    RegistryError: the report is not as it was registered"""
        with self.files(version, GATE) as path:
            if not path.exists() or hash_file(path) != version.tags.get(GATE_SHA256):
                raise RegistryError(f"Expected {GATE} of {version} as it was registered, got other bytes at {path}")
            report: Mapping[str, Any] = json.loads(path.read_text())
        return report

    def set_alias(self, name: str, alias: str, number: int) -> None:
        with self._answering():
            self._client.set_registered_model_alias(name, alias, str(number))

    def remove_alias(self, name: str, alias: str) -> None:
        with self._answering():
            self._client.delete_registered_model_alias(name, alias)

    @contextmanager
    def files(self, version: Version, what: str) -> Iterator[Path]:
        """Yield the path of MODEL or GATE itself if it lies on this machine, else of a temporary copy."""
        with TemporaryDirectory() as folder:
            yield self.fetch(version, what, Path(folder))

    def fetch(self, version: Version, what: str, downloads: Path) -> Path:
        """Return the path of MODEL or GATE itself if it lies on this machine, else of a copy in `downloads`."""
        parts = urlsplit(uri := version.source.removesuffix(MODEL) + what)
        if parts.scheme in ("", "file"):
            return Path(url2pathname(parts.path))
        with self._answering():
            return Path(download_artifacts(artifact_uri=uri, dst_path=str(downloads), tracking_uri=self._uri))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Raises    RegistryError: no answer, or another file replaced the one that is open"""
        if self._file:
            check_there(self._uri, self._file)
        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            message = hide_password(" ".join(BACKGROUND.sub("", str(error)).split()))[:300]
            raise RegistryError(
                f"Expected an answer from the registry at {hide_password(self._uri)}, got: {message}; "
                f"check registry.uri, and that its database is up, yours to write, and its disk not full"
            ) from error


def _make_metric(key: str, value: float, day: date) -> Metric:
    return Metric(key, value, (day - EPOCH) // timedelta(milliseconds=1), (day - EPOCH).days)


def _make_database(path: Path) -> None:
    """Create all tables at once: MLflow takes seconds to make them, and cannot continue from half of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{part}", registry_uri=f"sqlite:///{part}")
        with suppress(FileExistsError):  # another process was quicker
            path.hardlink_to(part)
    log.info("Created the registry %s", path)


@contextmanager
def _ignoring(*codes: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


def _list_versions(client: MlflowClient, wanted: str | None = None) -> list[Any]:
    page = client.search_model_versions(wanted)
    found = list(page)
    while page.token:
        page = client.search_model_versions(wanted, page_token=page.token)
        found += page
    return found
