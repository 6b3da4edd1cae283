import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from hypothesis import given
from hypothesis import strategies as st

from lstm_ts.configuration.parts import CONF, construct
from lstm_ts.errors import ConfigError
from lstm_ts.http_schema import Model, Worker
from serve.rollout import STOP, Rollout
from serve.settings import WorkerState
from serve.traffic import Arm, Guardrails, Tally, Traffic, choose_arm, decide_stop

RAILS = Guardrails(min_requests=100, max_more_errors=0.02, max_more_slow=0.05, slow_ms=50.0)
KEYS = [f"client-{i}" for i in range(2000)]
shares = st.floats(0, 1)


def traffic(share: float) -> Traffic:
    return Traffic(challenger_share=share, shadow=False, guardrails=None)


def configured(option: str, *overrides: str) -> Traffic:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(f"{CONF}/traffic", version_base="1.3"):
        chosen: Traffic = construct(hydra.compose(option, list(overrides)))
    return chosen


def test_the_position_of_a_key_is_that_of_its_sha256() -> None:
    # sha256("abc") = ba7816bf…, and 0xba7816bf / 2^32 = 0.72839
    assert choose_arm("abc", traffic(0.7283)) is Arm.CHAMPION
    assert choose_arm("abc", traffic(0.7284)) is Arm.CHALLENGER
    # sha256("") = e3b0c442…: 0.88942
    assert choose_arm("", traffic(0.8894)) is Arm.CHAMPION
    assert choose_arm("", traffic(0.8895)) is Arm.CHALLENGER


def test_a_key_has_the_same_arm_in_another_process() -> None:
    script = (
        "from serve.traffic import Traffic, choose_arm\n"
        "half = Traffic(challenger_share=0.5, shadow=False, guardrails=None)\n"
        "print(*(choose_arm(f'client-{i}', half) for i in range(2000)))"
    )
    root = Path(__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=root, check=True, capture_output=True, text=True, timeout=60
    )
    assert said.stdout.split() == [choose_arm(key, traffic(0.5)) for key in KEYS]


@given(st.text(st.characters()) | st.just("\ud800"), shares)
def test_any_key_has_an_arm_and_keeps_it(key: str, share: float) -> None:
    assert choose_arm(key, traffic(share)) is choose_arm(key, traffic(share))
    assert choose_arm(key, traffic(0.0)) is Arm.CHAMPION
    assert choose_arm(key, traffic(1.0)) is Arm.CHALLENGER


@given(st.text(), shares, shares)
def test_a_larger_share_moves_no_key_back(key: str, one: float, other: float) -> None:
    if choose_arm(key, traffic(min(one, other))) is Arm.CHALLENGER:
        assert choose_arm(key, traffic(max(one, other))) is Arm.CHALLENGER


@given(st.text(max_size=20), shares)
def test_the_challenger_gets_its_share_of_any_kind_of_key(prefix: str, share: float) -> None:
    """Within six standard deviations of a binomial count."""
    count = sum(choose_arm(prefix + key, traffic(share)) is Arm.CHALLENGER for key in KEYS)
    assert abs(count - 2000 * share) <= 6 * (2000 * share * (1 - share)) ** 0.5 + 1e-9


def test_tallies_of_processes_add_up() -> None:
    tally = Tally()
    for failed, took_ms in ((False, 50.0), (False, 50.1), (True, 3.0), (True, 60.0)):
        tally = tally.with_request(failed=failed, took_ms=took_ms, guardrails=RAILS)
    assert tally == Tally(requests=4, errors=2, slow=2)
    assert tally + Tally(6, 1, 0) == Tally(10, 3, 2)
    assert (tally + Tally(6, 1, 0)).halved() == Tally(5, 1, 1)


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        (Tally(), Tally(), None),
        (Tally(1000), Tally(99, 99, 99), None),
        (Tally(1000), Tally(100), None),
        (Tally(1000), Tally(100, errors=2, slow=5), None),
        (
            Tally(2000, errors=10),
            Tally(100, errors=3),
            "3 of the challenger's 100 requests failed (3.0 %), against 0.5 % of the champion's 2000: "
            "more than 2.0 % more",
        ),
        (
            Tally(1000, slow=10),
            Tally(200, slow=13),
            "13 of the challenger's 200 requests took longer than 50 ms (6.5 %), against 1.0 % of the champion's 1000: "
            "more than 5.0 % more",
        ),
        (
            Tally(),
            Tally(100, slow=6),
            "6 of the challenger's 100 requests took longer than 50 ms (6.0 %), against 0.0 % of the champion's 0: "
            "more than 5.0 % more",
        ),
    ],
)
def test_a_challenger_worse_than_the_guardrails_is_stopped(
    champion: Tally, challenger: Tally, reason: str | None
) -> None:
    assert decide_stop(champion, challenger, RAILS) == reason


@given(st.integers(100, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_what_hits_both_arms_alike_stops_neither(requests: int, errors: float, slow: float) -> None:
    both = Tally(requests, int(errors * requests), int(slow * requests))
    assert decide_stop(both, both, RAILS) is None


@given(
    st.builds(Tally, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000)),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_more_errors_never_undo_a_stop(champion: Tally, errors: int, more: int) -> None:
    if decide_stop(champion, Tally(1000, min(errors, 1000)), RAILS):
        assert decide_stop(champion, Tally(1000, min(errors + more, 1000)), RAILS)


def test_a_stopped_challenger_answers_nothing() -> None:
    canary = replace(configured("canary"), shadow=True)
    assert canary.needs_challenger
    worker = Worker(model=None, reason=None, challenger=Model.model_construct(version=2))
    shared_state: dict[object, object] = {0: WorkerState((worker,), (None,), 0)}
    rollout = Rollout(canary, shared_state)
    rollout.agree()
    assert ({rollout.choose(key) for key in KEYS}, rollout.shadow) == ({Arm.CHAMPION, Arm.CHALLENGER}, True)
    shared_state[f"{STOP} 2"] = "it fails"
    rollout.agree()
    assert ({rollout.choose(key) for key in KEYS}, rollout.shadow) == ({Arm.CHAMPION}, False)


@pytest.mark.parametrize(
    ("option", "share", "shadow", "guarded"),
    [
        ("champion", 0.0, False, False),
        ("shadow", 0.0, True, True),
        ("canary", 0.05, False, True),
        ("ab", 0.5, False, True),
    ],
)
def test_an_option_is_a_value(option: str, share: float, shadow: bool, guarded: bool) -> None:
    chosen = configured(option)
    assert (chosen.challenger_share, chosen.shadow) == (share, shadow)
    assert isinstance(chosen.guardrails, Guardrails) is guarded
    assert chosen.needs_challenger is (option != "champion")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("challenger_share=1.5", r"traffic.challenger_share in 0\.\.1, got 1.5"),
        ("challenger_share=nan", "traffic.challenger_share"),
        ("guardrails.min_requests=0", "traffic.guardrails.min_requests >= 1, got 0"),
        ("guardrails.min_requests=2.5", "min_requests"),
        ("guardrails.max_more_errors=1", "max_more_errors"),
        ("guardrails.max_more_slow=-0.1", "max_more_slow"),
        ("guardrails.slow_ms=0", "slow_ms > 0, got 0"),
        ("guardrails=5", "traffic.guardrails as null or as in traffic=canary, got 5"),
        ("guardrails.slow_ms=x", "values that serve.traffic.Traffic accepts"),
    ],
)
def test_a_value_out_of_range_is_named(override: str, words: str) -> None:
    with pytest.raises((ConfigError, InstantiationException), match=words):  # the command's edge says the cause of both
        configured("canary", override)
