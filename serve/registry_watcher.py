"""Load the versions that the registry's aliases name, and follow the aliases."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from lstm_ts.errors import ArtifactError, LstmTsError
from lstm_ts.http_schema import Input, Model, Worker
from lstm_ts.model.forecaster import Forecaster
from lstm_ts.registry.model_folder import MODEL_SHA256, load_registered
from lstm_ts.registry.version import CHALLENGER, CHAMPION, Version
from serve.metrics import FOLLOWED, LOAD_FAILURES
from serve.registry_process import RemoteRegistry
from serve.settings import SymbolSettings
from serve.traffic import Arm

TICK_S = 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedVersion:
    """One loaded version; a request takes one such object and uses no other."""

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


@dataclass(frozen=True)
class AliasState:
    """The version loaded for an alias, and why there is none or not the newest."""

    serving: LoadedVersion | None = None
    reason: str | None = None


@dataclass(frozen=True)
class LoadedModels:
    champion: AliasState = AliasState(reason="no model is loaded yet")
    challenger: AliasState = AliasState()

    @property
    def worker(self) -> Worker:
        champion, challenger = self.champion.serving, self.challenger.serving
        return Worker(
            model=champion.model if champion else None,
            reason=self.champion.reason,
            challenger=challenger.model if challenger else None,
            challenger_reason=self.challenger.reason,
        )


def load(registry: RemoteRegistry, version: Version, alias: str, symbol: str) -> LoadedVersion:
    """Raises    RegistryError: files differ from those registered; ArtifactError: a model of another symbol"""
    with registry.files(version) as folder:
        forecaster = load_registered(version, folder)
    if forecaster.provenance.symbol != symbol:
        raise ArtifactError(
            f"Expected a model of {symbol} in {version}, got one of {forecaster.provenance.symbol}; set symbol or name"
        )
    model = Model(
        name=version.name,
        version=version.number,
        alias=alias,
        artifact_sha256=version.tags[MODEL_SHA256],
        trained_until=forecaster.provenance.trained_until,
    )
    return LoadedVersion(forecaster, model)


class RegistryWatcher:
    """Polls the registry's aliases in a thread; a version that loads and gives a forecast replaces the last one."""

    def __init__(
        self,
        settings: SymbolSettings,
        registry: RemoteRegistry,
        *,
        warm_up: Callable[[LoadedVersion], None],
        newest_call: Callable[[], int],
        on_change: Callable[[LoadedModels, int], None],
    ) -> None:
        """warm_up       raises if a version gives no forecast
        newest_call   returns the number of the newest call to poll the registry at once
        on_change     receives the loaded models after a change, and the number of the last call that was followed
        """
        self._settings, self._registry = settings, registry
        self._warm_up, self._newest_call, self._on_change = warm_up, newest_call, on_change
        self._last_call = 0
        self._followed = FOLLOWED.labels(settings.name)
        self.loaded = LoadedModels()

    def start(self) -> None:
        """Poll once, then continue in the background."""
        self._poll_and_report(self._newest_call())
        threading.Thread(target=self._follow, name="watcher", daemon=True).start()

    def _follow(self) -> None:
        waited_s, pause = 0.0, threading.Event()
        while True:
            pause.wait(TICK_S)
            waited_s += TICK_S
            call = self._newest_call()
            if call != self._last_call or waited_s >= self._settings.poll_s:
                waited_s = 0.0
                self._poll_and_report(call)

    def _poll_and_report(self, call: int) -> None:
        before, last_call = self.loaded, self._last_call
        self.loaded, self._last_call = self._poll(before), call
        for old, new in ((before.champion, self.loaded.champion), (before.challenger, self.loaded.challenger)):
            if new.reason and new.reason != old.reason:
                log.error("%s", new.reason, extra={"serving": new.serving and new.serving.model.version})
        if (self.loaded, call) != (before, last_call) or self.loaded.champion.serving is None:
            self._on_change(self.loaded, call)

    def _poll(self, loaded: LoadedModels) -> LoadedModels:
        """Return the models after a poll. Without a champion alias the last champion stays; a challenger is dropped."""
        name, wanted = self._settings.name, None
        try:
            version = self._registry.find(name, CHAMPION)
            if self._settings.challenger:
                wanted = self._registry.find(name, CHALLENGER)
        except LstmTsError as error:
            LOAD_FAILURES.labels("registry").inc()
            return replace(loaded, champion=replace(loaded.champion, reason=f"The registry does not answer: {error}"))
        self._followed.set_to_current_time()  # real time, as Prometheus's time() is
        if version is None:
            command = f"python -m lstm_ts.retrain {self._settings.typed}"
            reason = f"Expected a {CHAMPION} of {name}, got none yet; {command} makes one"
            return replace(loaded, champion=replace(loaded.champion, reason=reason))
        champion = self._fill(loaded.champion, version, CHAMPION)
        if wanted is None or wanted.number == version.number:
            missing = f"Expected a {CHALLENGER} of {name} for this traffic, got none; {version} answers everything"
            return LoadedModels(champion, AliasState(reason=missing if self._settings.challenger else None))
        return LoadedModels(champion, self._fill(loaded.challenger, wanted, Arm.CHALLENGER))

    def _fill(self, state: AliasState, version: Version, alias: str) -> AliasState:
        if state.serving and state.serving.model.version == version.number:
            return AliasState(state.serving)
        try:
            serving = load(self._registry, version, alias, self._settings.symbol)
            self._warm_up(serving)
        except Exception as error:  # whatever fails while a version loads, the previous one stays
            LOAD_FAILURES.labels("load").inc()
            log.debug("Loading failed", exc_info=True)
            return replace(state, reason=f"{version} does not serve: {error}")
        log.info("Serving %s as %s, trained until %s", version, alias, serving.model.trained_until)
        return AliasState(serving)
