"""What a worker does with a request: check, forecast, encode."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from lstm_ts import clock, http_schema
from lstm_ts.errors import ArtifactError, ConfigError, DataError, NotEnoughBars
from lstm_ts.http_schema import Problem
from lstm_ts.ledger.rows import ForecastRow, ServedPath
from lstm_ts.market.bars import HOURLY_SCHEMA
from lstm_ts.market.session import HOUR
from lstm_ts.model.features import Bars
from lstm_ts.model.flags import Flags, of_training
from lstm_ts.model.forecaster import Forecast, Forecaster
from lstm_ts.model.season import NO_STATES, SeasonStates
from lstm_ts.store.bar_store import BarStore
from serve.registry_watcher import LoadedModels, LoadedVersion
from serve.settings import Ask, Example, WorkerAnswer
from serve.traffic import Arm
from serve.window import InvalidWindow, read_window

WARM_UPS = 3
FIRST_S = 2.0  # a worker waits so long for its bars before it answers
PATH = TypeAdapter(list[http_schema.Step])
FindSkill = Callable[[http_schema.Model, str], tuple[http_schema.Skill | None, str | None]]

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    changed: int  # of the store
    bars: Bars
    source: str  # that delivered them
    states: dict[int, tuple[Forecaster, SeasonStates]]  # by version
    asked: set[int]  # versions since then; others are forgotten


class StoredBars:
    """The store's bars and what they tell of the profile, read again when the store has changed.

    A thread of its own follows the store, so that a window that was sent never waits for a disk.
    """

    def __init__(self, folder: Path) -> None:
        self._store = BarStore(folder, HOURLY_SCHEMA)
        self._last: _Read | None = None

    def follow(self, poll_s: float, tell: Callable[[datetime | None], None]) -> None:
        """Read once, as far as that takes no longer than FIRST_S, and go on in the background.

        tell    takes, each time, when the last bar closed; None: there is none
        """
        read = threading.Event()
        threading.Thread(target=self._follow, args=(poll_s, read, tell), name="bars", daemon=True).start()
        read.wait(FIRST_S)

    def _follow(self, poll_s: float, read: threading.Event, tell: Callable[[datetime | None], None]) -> None:
        while True:
            with suppress(DataError, OSError):  # empty, or being mended: what was read before stays
                self._refresh()
            read.set()
            with suppress(ConfigError):  # of a calendar that nobody knows
                tell(self._last.bars.ts_N[-1].item().replace(tzinfo=UTC) + HOUR if self._last else None)
            time.sleep(poll_s)

    def latest(self, count: int) -> Bars:
        """Raises    NoRows: an empty store; DataError: a file is not as it was written"""
        return self._refresh().bars.tail(count)

    @property
    def source(self) -> str:
        """The source of the bars that were read last."""
        return self._last.source if self._last else ""

    def season_states(self, version: int, forecaster: Forecaster) -> SeasonStates:
        """Take those of the bars that were read last."""
        if (last := self._last) is None:
            return NO_STATES
        if version not in last.states:
            last.states[version] = forecaster, forecaster.season_states(forecaster.grid(last.bars))
        last.asked.add(version)
        return last.states[version][1]

    def _refresh(self) -> _Read:
        """Another thread may do the same meanwhile."""
        last, changed = self._last, self._store.changed
        if last is None or not changed or changed != last.changed:
            bars = Bars.of(self._store.read())
            asked = {version: last.states[version][0] for version in tuple(last.asked)} if last else {}
            states = {version: (each, each.season_states(each.grid(bars))) for version, each in asked.items()}
            last = self._last = _Read(changed, bars, self._store.source, states, set())
        return last


class RequestHandler:
    """Answers requests for one symbol, each by one version as a whole; another thread may try one out meanwhile."""

    def __init__(
        self, symbol: str, bars: Path, flags: Flags, find_skill: FindSkill, served: Sequence[str] = ()
    ) -> None:
        """find_skill   see `LiveSkills.find`
        served       see `read_window`
        """
        self._symbol, self._flags, self._stored, self._served = symbol, flags, StoredBars(bars), served
        self._find_skill = find_skill

    def follow_store(self, poll_s: float, tell: Callable[[datetime | None], None]) -> None:
        """tell    takes, each time, when the last bar closed; None: there is none"""
        self._stored.follow(poll_s, tell)

    def answer(self, ask: Ask, loaded: LoadedModels, seconds: dict[str, float]) -> WorkerAnswer:
        """The champion's where there is no challenger, or where it has none. A shadow has no one to step in.

        seconds   takes what each part of it took
        """
        champion, challenger = loaded.champion.serving, loaded.challenger.serving
        if ask.arm is not Arm.CHAMPION and challenger:
            answer = self._try(ask, challenger, seconds)
            if answer.status == 200 or ask.arm is Arm.SHADOW:
                return answer
        first, ask = ask.arm, ask._replace(arm=Arm.CHAMPION)
        if champion is None:
            return _refuse(503, loaded.champion.reason or "no model is loaded yet", ask)
        answer = self._answer(ask, champion, seconds)
        tried = first is not Arm.CHAMPION and challenger and answer.status == 200
        return answer._replace(fell_back=str(challenger.model.version)) if challenger and tried else answer

    def _try(self, ask: Ask, challenger: LoadedVersion, seconds: dict[str, float]) -> WorkerAnswer:
        """Whatever a challenger does, its client gets an answer."""
        try:
            return self._answer(ask, challenger, seconds)
        except Exception as error:
            facts = {"event": "failed", "version": str(challenger.model.version), "arm": str(ask.arm)}
            log.error("Version %d has failed as %s: %r", challenger.model.version, ask.arm, error, extra=facts)
            log.debug("It failed here", exc_info=True)
            return _refuse(500, "the challenger has failed", ask, str(challenger.model.version))

    def try_out(self, serving: LoadedVersion) -> Example:
        """A warm-up, by the way that requests take.    Raises    ArtifactError: no forecast comes of it"""
        body = _warm_up_body(serving.forecaster)
        ask = Ask("00000000-0000-0000-0000-000000000000", Arm.CHAMPION, time.monotonic(), body)
        answers = [self._answer(ask, serving, {}) for _ in range(WARM_UPS)]
        if answers[-1].status != 200:
            raise ArtifactError(f"Expected a forecast from the warm-up, got {answers[-1].body.decode()}; train again")
        return Example(body, answers[-1].body)

    def _answer(self, ask: Ask, serving: LoadedVersion, seconds: dict[str, float]) -> WorkerAnswer:
        now, version = clock.now(), str(serving.model.version)
        seconds.clear()
        try:
            with _timed("check", seconds):
                bars = self._read_bars(ask, serving.forecaster, now)
            with _timed("features", seconds):
                states = self._stored.season_states(serving.model.version, serving.forecaster)
                forecast = _forecast(serving.forecaster, bars, states)
            with _timed("encode", seconds):
                reply = self._reply(ask, serving, forecast, now)
                body = reply.model_dump_json().encode()
                row = _row(ask, reply, bars, now)
        except InvalidWindow as refused:
            if ask.body is None:
                return _refuse(503, refused.problems[0].problem, ask, version)
            problems = http_schema.Problems(problems=refused.problems, request_id=ask.request_id)
            return WorkerAnswer(422, version, ask.arm, "", 0.0, None, problems.model_dump_json().encode())
        except DataError as error:  # of the store: the request is not to blame
            return _refuse(503, str(error), ask, version)
        seconds["network"] = serving.forecaster.network.seconds
        seconds["features"] -= seconds["network"]
        return WorkerAnswer(200, version, ask.arm, "", 0.0, row, body)

    def _read_bars(self, ask: Ask, forecaster: Forecaster, now: datetime) -> Bars:
        """The last bars only: they span a window, and what it costs does not grow with what was sent."""
        tsteps = forecaster.spec.tsteps
        if ask.body is None:
            return self._stored.latest(tsteps)
        bars = read_window(ask.body, symbol=self._symbol, session=forecaster.session, now=now, served=self._served)
        if len(bars.ts_N) == 0:
            raise _not_enough(f"Expected at least {tsteps} session hours for one window, got 0; send earlier bars too")
        return bars.tail(tsteps)

    def _reply(self, ask: Ask, serving: LoadedVersion, forecast: Forecast, now: datetime) -> http_schema.ForecastReply:
        path, quote = _path(forecast), forecast.quote
        skill, skill_reason = self._find_skill(serving.model, forecast.symbol)
        return http_schema.ForecastReply(
            symbol=forecast.symbol,
            origin_ts=forecast.origin_ts,
            last_close=forecast.last_close,
            currency=quote.currency if quote else None,
            decimals=quote.decimals if quote else None,
            path=path,
            predicted_price=path[-1].price,
            model=serving.model,
            arm=ask.arm,
            skill=skill,
            skill_reason=skill_reason,
            season_day=forecast.season_day,
            data_age_s=(now - forecast.origin_ts).total_seconds(),
            flags=[
                *of_training(serving.forecaster.provenance, self._stored.source if ask.body is None else ""),
                *self._flags.find(forecast, serving.forecaster.spec.tsteps, now),
            ],
            request_id=ask.request_id,
        )


@contextmanager
def _timed(part: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - start


def _forecast(forecaster: Forecaster, bars: Bars, states: SeasonStates) -> Forecast:
    try:
        return forecaster.forecast(bars, states)
    except NotEnoughBars as error:
        raise _not_enough(str(error)) from None


def _not_enough(text: str) -> InvalidWindow:
    return InvalidWindow([Problem(path="bars", problem=text)])


def _path(forecast: Forecast) -> list[http_schema.Step]:
    """All steps are validated in one call: one by one they took most of the time of a reply."""
    prices_HQ = forecast.price_HL(*forecast.levels).tolist()
    chosen_H3 = forecast.price_HL(0.5, 0.1, 0.9).tolist()
    steps = [
        {
            "target_ts": target_ts,
            "price": price,
            "lower_80": lower_80,
            "upper_80": upper_80,
            "quantiles": dict(zip(forecast.levels, prices_Q, strict=True)),
            "persistence": forecast.last_close,
        }
        for target_ts, prices_Q, (price, lower_80, upper_80) in zip(
            forecast.target_ts_H, prices_HQ, chosen_H3, strict=True
        )
    ]
    return PATH.validate_python(steps)


def _row(ask: Ask, reply: http_schema.ForecastReply, bars: Bars, now: datetime) -> ForecastRow:
    """What the ledger keeps of a reply; of the window, its hash."""
    columns = zip(*((step.target_ts, step.price, step.lower_80, step.upper_80) for step in reply.path), strict=True)
    return ForecastRow(
        request_id=ask.request_id,
        arm=reply.arm,
        at=now,
        name=reply.model.name,
        symbol=reply.symbol,
        version=reply.model.version,
        origin_ts=reply.origin_ts,
        last_close=reply.last_close,
        path=ServedPath(*columns),
        flags=tuple(reply.flags),
        latency_ms=(time.monotonic() - ask.asked_at) * 1000,
        input_sha256=bars.sha256,
    )


def _warm_up_body(forecaster: Forecaster) -> bytes:
    """The latest window by the calendar, so that this is laid out too, of prices that rise and fall by a thousandth."""
    now, tsteps = clock.now(), forecaster.spec.tsteps
    hours = forecaster.session.hours(now - timedelta(days=tsteps + 14), now - HOUR)["ts"].tail(tsteps)
    prices = [{"open": 20.0, "high": 20.03, "low": 19.99, "close": 20.02 - 0.02 * (i % 2)} for i in range(tsteps)]
    bars = [http_schema.Bar(ts=ts.isoformat(), **price) for ts, price in zip(hours, prices, strict=True)]
    window = http_schema.Window(symbol=forecaster.provenance.symbol, bars=bars)
    return window.model_dump_json(exclude_none=True).encode()


def _refuse(status: int, reason: str, ask: Ask, version: str = "") -> WorkerAnswer:
    refusal = http_schema.Refusal(reason=reason, request_id=ask.request_id)
    return WorkerAnswer(status, version, ask.arm, "", 0.0, None, refusal.model_dump_json().encode())
