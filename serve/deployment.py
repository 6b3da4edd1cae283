"""The version that answers, and how it follows the registry's alias."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lstm_ts.errors import ArtifactError, LstmTsError
from lstm_ts.forecaster import Forecaster
from lstm_ts.ledger import Ledger
from lstm_ts.registry import CHAMPION, MODEL_SHA256, Registry, check_there
from lstm_ts.versions import Version
from serve.metrics import LOAD_FAILURES
from serve.schema import Input, Model, Worker
from serve.settings import Settings

TICK_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """One version, loaded, whole: a request takes it once and uses nothing else."""

    forecaster: Forecaster
    model: Model

    @property
    def input(self) -> Input:
        spec, forecaster = self.forecaster.spec, self.forecaster
        return Input(
            symbol=forecaster.provenance.symbol,
            tsteps=spec.tsteps,
            max_missing=spec.max_missing,
            horizon=spec.horizon,
            levels=list(spec.levels),
            calendar=forecaster.session.calendar,
        )


def load(registry: Registry, version: Version, symbol: str) -> Serving:
    """Raises    RegistryError: not as it was registered; ArtifactError: of another symbol"""
    forecaster = registry.load(version)
    if forecaster.provenance.symbol != symbol:
        raise ArtifactError(
            f"Expected a model of {symbol} in {version}, got one of {forecaster.provenance.symbol}; set symbol or name"
        )
    model = Model(
        name=version.name,
        version=version.number,
        alias=CHAMPION,
        artifact_sha256=version.tags[MODEL_SHA256],
        trained_until=forecaster.provenance.trained_until,
    )
    return Serving(forecaster, model)


class Follower:
    """Asks the registry, in a thread of its own, whose the alias is; what loads and answers takes over."""

    def __init__(
        self,
        settings: Settings,
        *,
        try_out: Callable[[Serving], None],
        asked: Callable[[], int],
        tell: Callable[[Worker, Input | None, int], None],
    ) -> None:
        """try_out   raises where a version gives no forecast
        asked     number of the newest call to look at the registry at once
        tell      takes what has changed
        """
        self._settings, self._try_out, self._asked, self._tell = settings, try_out, asked, tell
        self._registry: Registry | None = None
        self._looked = 0
        self.serving: Serving | None = None
        self.reason: str | None = "no model is loaded yet"

    def start(self) -> None:
        """Look once, then go on in the background."""
        self._look_and_tell(self._asked())
        threading.Thread(target=self._follow, name="follower", daemon=True).start()

    def _follow(self) -> None:
        waited_s, pause = 0.0, threading.Event()
        while True:
            pause.wait(TICK_S)
            waited_s += TICK_S
            call = self._asked()
            if call != self._looked or waited_s >= self._settings.poll_s:
                waited_s = 0.0
                self._look_and_tell(call)

    def _look_and_tell(self, call: int) -> None:
        before = self.serving, self.reason, self._looked
        self.reason, self._looked = self._look(), call
        if self.reason and self.reason != before[1]:
            log.error("%s", self.reason, extra={"serving": self.serving and self.serving.model.version})
        if (self.serving, self.reason, call) != before or self.serving is None:
            model, needs = (self.serving.model, self.serving.input) if self.serving else (None, None)
            self._tell(Worker(model=model, reason=self.reason), needs, call)

    def _look(self) -> str | None:
        """Follow the alias; why not, if so. A champion taken away goes on answering: none is no better."""
        try:
            version = self._open().champion(self._settings.name)
        except LstmTsError as error:
            LOAD_FAILURES.labels("registry").inc()
            return f"The registry does not answer: {error}"
        if version is None:
            return f"Expected a {CHAMPION} of {self._settings.name}, got none yet; python -m lstm_ts.retrain makes one"
        if self.serving and self.serving.model.version == version.number:
            return None
        try:
            loaded = load(self._open(), version, self._settings.symbol)
            self._try_out(loaded)
        except Exception as error:  # whatever a version does while it is loaded, the one before goes on
            LOAD_FAILURES.labels("load").inc()
            log.debug("Loading failed", exc_info=True)
            return f"{version} does not serve: {error}"
        log.info("Serving %s, trained until %s", version, loaded.model.trained_until)
        self.serving = loaded
        return None

    def _open(self) -> Registry:
        check_there(self._settings.registry_uri)
        if self._registry is None:
            self._registry = Registry(self._settings.registry_uri, Ledger(self._settings.ledger_url))
        return self._registry
