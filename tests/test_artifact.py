"""Model folders that are broken although their sums match, each by one change to a sound one."""

import hashlib
import json
import math
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from models import make_data, random_network, symbol_bars
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from serving import save_model

from lstm_ts.errors import ArtifactError, NotEnoughBars
from lstm_ts.market.levels import close_range
from lstm_ts.market.prices import Quote
from lstm_ts.market.session import Session
from lstm_ts.model.artifact import load_forecaster, save_forecasters
from lstm_ts.model.baselines import BASELINES, Climatology
from lstm_ts.model.features import Array
from lstm_ts.model.forecaster import Forecaster, Provenance
from lstm_ts.model.nets.lstm import LSTMConfig
from lstm_ts.model.windows import WindowSpec
from lstm_ts.training.forecasters import find_obstacle

NETWORK, WEIGHTS, MANIFEST, SUMS = "network.onnx", "weights.safetensors", "manifest.json", "SHA256SUMS"
FITTED = ("session", "scaler", "reference")
SILVER = "symbols.XAGUSD"
CONFIG = LSTMConfig(hidden=4, layers=1, decoder=4, dropout=0.0)
SPEC = WindowSpec(tsteps=24, horizon=4, levels=(0.1, 0.5, 0.9), max_missing=3)
Values = dict[str, Any]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def sound(hourly_bars: pl.DataFrame, silver: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("sound") / "model", hourly_bars, silver, seed=1)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


@pytest.fixture(scope="module")
def old_forecaster(hourly_bars: pl.DataFrame, silver: Session) -> Forecaster:
    """As before format 4: one volatility makes the scale, and is no input of the network."""
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC, half_lives_hours=(6.0,))
    data.setup()
    fitted = data.symbols[0].scaler
    scaler = replace(
        fitted,
        quiet_profile_W=fitted.return_profile_W,
        return_factors={},
        range_factors={},
        elasticity_VH=np.ones((1, SPEC.horizon)),
        usual_size=1.0,
        season_prior_returns=1e300,
    )
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC, kept_scalers={"XAGUSD": scaler})
    data.setup()
    (its,) = data.symbols
    reference = replace(
        its.reference, baselines={n: b for n, b in its.reference.baselines.items() if not n.startswith("har")}
    )
    network = random_network(data, CONFIG, volatilities=0, drift=0.9, max_drift=math.inf)
    until = "2014-04-01T00:00:00+00:00"
    provenance = Provenance("XAGUSD", "test hours", "", until, "ab", until, 7, "", "c0ffee", {"torch": "2"}, {})
    return Forecaster(network, scaler, reference, SPEC, silver, provenance, {}, close_range(its.train_closes))


def test_format_4_had_the_weight_of_the_location_in_its_graph(folder: Path, hourly_bars: pl.DataFrame) -> None:
    expected = load_forecaster(folder).forecast(hourly_bars).q_HQ
    change_manifest(folder, lambda values: (values.update(format=4), silver(values).pop("location_weight")))
    np.testing.assert_array_equal(load_forecaster(folder).forecast(hourly_bars).q_HQ, expected)


@pytest.fixture
def third_folder(old_forecaster: Forecaster, tmp_path: Path) -> Path:
    """As format 3 was: one symbol, its parts beside the others."""
    folder = tmp_path / "third"
    save_forecasters([old_forecaster], folder)
    values = json.loads((folder / MANIFEST).read_text())
    values |= values.pop("symbols")["XAGUSD"] | {"format": 3}
    del values["location_weight"]
    known = ("return_profile_W", "range_profile_W", "drift_D", "return_unit", "half_life_hours")
    values["scaler"] = {name: values["scaler"][name] for name in known}
    values["reference"]["volatility_pinball_H"] = values["reference"].pop("start_pinball_H")
    (folder / MANIFEST).write_text(json.dumps(values))
    change_manifest(folder, lambda values: None)
    return folder


@pytest.fixture
def old_folder(third_folder: Path) -> Path:
    """As format 2 was: no graph."""
    (third_folder / NETWORK).unlink()

    def to_format_2(values: Values) -> None:
        values.update(format=2)
        baselines = values["reference"].pop("baselines")
        values["reference"]["climatology_HQ"] = baselines["climatology"]["q_HQ"]
        values["reference"]["volatility_HQ"] = baselines["volatility"]["z_HQ"]
        del values["files"], values["quote"], values["net"]["name"]

    change_manifest(third_folder, to_format_2)
    return third_folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sign(folder: Path) -> None:
    names = [name for name in (NETWORK, WEIGHTS, MANIFEST) if (folder / name).exists()]
    (folder / SUMS).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as refused:
        load_forecaster(folder)
    said = str(refused.value)
    assert said.startswith("Expected ") and ", got " in said and "; " in said
    assert "\n" not in said and len(said) < 700
    return said


def change_manifest(folder: Path, change: Callable[[Values], object]) -> None:
    """Also what the weights say they were fitted to, as someone would who knows the format."""
    values = json.loads((folder / MANIFEST).read_text())
    change(values)
    if values.get("format") == 3:
        fitted = json.dumps([values[name] for name in ("net", "spec", *FITTED)], sort_keys=True)
        sign_weights(folder, hashlib.sha256(fitted.encode()).hexdigest())
    elif "symbols" not in values:
        sign_weights(folder, json.dumps([values["spec"], values["net"]], sort_keys=True))
    elif all(part.keys() >= set(FITTED) for part in values["symbols"].values()):
        symbols = [[name, *(part[key] for key in FITTED)] for name, part in values["symbols"].items()]
        fitted = json.dumps([values["net"], values["spec"], symbols], sort_keys=True)
        sign_weights(folder, hashlib.sha256(fitted.encode()).hexdigest())
    if isinstance(values.get("files"), dict) and WEIGHTS in values["files"]:
        values["files"][WEIGHTS] = sha256(folder / WEIGHTS)
    (folder / MANIFEST).write_text(json.dumps(values))
    sign(folder)


def sign_weights(folder: Path, fitted_to: str) -> None:
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"fitted_to": fitted_to})


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        metadata = weights.metadata()
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata=metadata)
    sign(folder)


def silver(values: Values) -> Values:
    found: Values = values["symbols"]["XAGUSD"]
    return found


def assign_silver(path: str, value: Any) -> Callable[[Values], None]:
    return assign(f"symbols.XAGUSD.{path}", value)


def assign(path: str, value: Any) -> Callable[[Values], None]:
    """path   as in "net.hidden" """

    def change(values: Values) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            values = values[parent]
        values[last] = value

    return change


def first_of(path: str, value: Any) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        part, name = path.split(".")
        silver(values)[part][name][0] = value

    return change


def replaced(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = make(tensors[name]).contiguous()

    return change


def filled(value: float) -> Callable[[Tensors], None]:
    return replaced("head.weight", lambda tensor: torch.full_like(tensor, value))


MANIFESTS: dict[str, tuple[Callable[[Values], object], str]] = {
    "no format": (lambda values: values.pop("format"), "with format 1, 2, 3, 4, 5, got null"),
    "a later format": (assign("format", 6), "with format 1, 2, 3, 4, 5, got 6"),
    "true for a format": (assign("format", True), "with format 1, 2, 3, 4, 5, got true"),
    "a format that has no closes": (assign("format", 1), "the parts format, .*, got one with"),
    "no quote": (lambda values: silver(values).pop("quote"), "got one without quote"),
    "a currency of small letters": (assign_silver("quote.currency", "usd"), "Expected a currency in capital letters"),
    "decimals of text": (assign_silver("quote.decimals", "3"), "quote.decimals to be a whole number"),
    "decimals below 0": (assign_silver("quote.decimals", -1), "Expected decimals within 0..12, got -1"),
    "no weight of the location": (lambda values: silver(values).pop("location_weight"), "without location_weight"),
    "a weight of text": (assign_silver("location_weight", "1"), 'XAGUSD.location_weight within 0..1, got "1"'),
    "a weight above 1": (assign_silver("location_weight", 1.5), "XAGUSD.location_weight within 0..1, got 1.5"),
    "no closes": (lambda values: silver(values).pop("closes"), "got one without closes"),
    "half of the closes": (
        lambda values: silver(values)["closes"].pop("lowest"),
        "closes with .* got one without lowest",
    ),
    "closes of text": (assign_silver("closes.highest", "21"), "closes.highest to be a finite number"),
    "closes of 0": (assign_silver("closes.lowest", 0), "closes above 0 and ascending, got 0 to"),
    "closes that descend": (assign_silver("closes.lowest", 1e9), "closes above 0 and ascending, got 1000000000.0 to"),
    "closes of no time": (assign_silver("provenance.trained_until", ""), "provenance.trained_until beside closes"),
    "a part too few": (lambda values: silver(values).pop("scaler"), "got one without scaler"),
    "a part too many": (assign("more", 1), "got one with more"),
    "a key too many": (assign_silver("provenance.more", 1), "got one with more"),
    "a list for an object": (assign("net", [1]), r"net as an object, got \[1\]"),
    "no files": (lambda values: values.pop("files"), "got one without files"),
    "text for files": (assign("files", "all"), 'files as an object, got "all"'),
    "another graph": (
        lambda values: values["files"].update({NETWORK: "ab"}),
        f"{NETWORK} as {MANIFEST} names it, got one of another model",
    ),
    "a graph of other tsteps": (assign("spec.tsteps", 12), r"a graph of the shapes .*\[12, 37\].*, got .*\[24, 37\]"),
    "a graph of other levels": (
        lambda values: (
            values["spec"].update(levels=[0.5]),
            silver(values)["reference"]["baselines"].update(
                persistence={"zero_HQ": [[0.0]] * 4},
                climatology={"q_HQ": [[0.0]] * 4},
                volatility={"z_HQ": [[0.0]] * 4},
                har={"z_HQ": [[0.0]] * 4},
                har_rolling={"z_HQ": [[0.0]] * 4},
            ),
        ),
        r"a graph of the shapes .*\[4, 1\].*, got .*\[4, 3\]",
    ),
    "no scores": (assign_silver("scores", None), "scores as an object, got null"),
    "tsteps below 0": (assign("spec.tsteps", -24), "tsteps >= 2"),
    "tsteps beyond time": (assign("spec.tsteps", 10**9), "spec.tsteps of at most 100000, got 1000000000"),
    "a horizon below 0": (assign("spec.horizon", -4), "horizon >= 1"),
    "another horizon": (assign("spec.horizon", 5), "elasticity_VH to be 2 x 5 numbers"),
    "levels that descend": (assign("spec.levels", [0.9, 0.5, 0.1]), "ascending levels"),
    "levels without a median": (assign("spec.levels", [0.1, 0.4, 0.9]), "that hold 0.5"),
    "levels of text": (assign("spec.levels", ["0.1", 0.5]), "spec.levels to be a list of finite numbers"),
    "no levels": (assign("spec.levels", []), "ascending levels"),
    "an unknown calendar": (assign_silver("session.calendar", "MOON"), "MOON"),
    "a calendar that is none": (assign_silver("session.calendar", 7), "session.calendar to be text, got 7"),
    "an unknown zone": (assign_silver("session.zone", "Mars/Olympus"), "Mars/Olympus"),
    "a short profile": (
        lambda values: silver(values)["scaler"]["return_profile_W"].pop(),
        "return_profile_W to be 168 numbers",
    ),
    "a ragged profile": (first_of("scaler.drift_D", [1, 2]), "scaler.drift_D to be 24 numbers"),
    "a profile of null": (first_of("scaler.range_profile_W", None), "scaler.range_profile_W to be 168 numbers"),
    "a profile of text": (first_of("scaler.range_profile_W", "1"), "scaler.range_profile_W to be 168 numbers"),
    "a profile of NaN": (first_of("scaler.range_profile_W", float("nan")), "JSON, got the number NaN"),
    "a profile of infinity": (first_of("scaler.drift_D", float("inf")), "JSON, got the number Infinity"),
    "a profile of 0": (first_of("scaler.range_profile_W", 0.0), "finite and above 0, got 0.0"),
    "a profile below 0": (first_of("scaler.return_profile_W", -1.0), "finite and above 0, got -1.0"),
    "no half-lives": (assign_silver("scaler.half_lives_V", []), "half_lives_V to be 1 numbers"),
    "a half-life of 0": (first_of("scaler.half_lives_V", 0.0), "half_lives_V to be finite and above 0"),
    "a factor of 0": (assign_silver("scaler.return_factors", {"cpi": 0}), "scaler.return_factors.cpi above 0, got 0"),
    "a factor of text": (assign_silver("scaler.range_factors", {"cpi": "2"}), 'range_factors.cpi above 0, got "2"'),
    "factors in a list": (assign_silver("scaler.range_factors", [2]), "scaler.range_factors to be an object"),
    "elasticities of another horizon": (
        assign_silver("scaler.elasticity_VH", [[1.0] * 3] * 2),
        "elasticity_VH to be 2 x 4 numbers",
    ),
    "a symbol under another's name": (
        lambda values: values["symbols"].update(XAUUSD=values["symbols"].pop("XAGUSD")),
        "symbols by their names",
    ),
    "no symbols": (lambda values: values["symbols"].clear(), "symbols by their names"),
    "a unit of null": (assign_silver("scaler.return_unit", None), "scaler.return_unit to be a finite number, got null"),
    "a unit of 0": (assign_silver("scaler.return_unit", 0.0), "scaler.return_unit above 0, got 0.0"),
    "a half-life below 0": (assign_silver("scaler.half_life_hours", -1.0), "scaler.half_life_hours above 0, got -1.0"),
    "quantiles that cross": (
        lambda values: silver(values)["reference"]["baselines"]["volatility"]["z_HQ"][0].reverse(),
        "reference.baselines.volatility.z_HQ to be ascending",
    ),
    "a baseline that nobody knows": (
        lambda values: silver(values)["reference"]["baselines"].update(oracle={}),
        "reference.baselines among persistence, .*, got .*oracle",
    ),
    "no volatility forecast": (
        lambda values: silver(values)["reference"]["baselines"].pop("volatility"),
        "baselines among",
    ),
    "a baseline without its array": (
        lambda values: silver(values)["reference"]["baselines"]["climatology"].clear(),
        "climatology q_HQ, got one without q_HQ",
    ),
    "a loss below 0": (first_of("reference.mase_scale_H", -1.0), "mase_scale_H to be finite and at least 0, got -1.0"),
    "a symbol with a path": (assign_silver("provenance.symbol", "../../x"), "a symbol of 1 to 32 characters"),
    "an empty symbol": (assign_silver("provenance.symbol", ""), "a symbol of 1 to 32 characters"),
    "a moment that is none": (
        assign_silver("provenance.trained_until", "soon"),
        'an ISO time with its offset, got "soon"',
    ),
    "a moment without offset": (assign_silver("provenance.data_end", "2014-01-01"), "an ISO time with its offset"),
    "a seed of text": (assign_silver("provenance.seed", "7"), "provenance.seed to be a whole number"),
    "a library without version": (
        assign_silver("provenance.versions", {"torch": 2}),
        "versions.torch to be text, got 2",
    ),
}
OLD_MANIFESTS: dict[str, tuple[Callable[[Values], object], str]] = {
    "a key too few": (lambda values: values["net"].pop("hidden"), "net with .* got one without hidden"),
    "text for a number": (assign("net.hidden", "4"), 'net.hidden to be a whole number, got "4"'),
    "a fraction of a unit": (assign("net.hidden", 4.5), "net.hidden to be a whole number, got 4.5"),
    "true for one": (assign("net.layers", True), "net.layers to be a whole number, got true"),
    "no units": (assign("net.hidden", 0), "hidden, layers and decoder >= 1"),
    "units beyond memory": (assign("net.hidden", 10**9), "at most 64 layers and 65536 units"),
    "units beyond any number": (assign("net.hidden", 10**400), "at most 64 layers"),
    "layers beyond time": (assign("net.layers", 10**9), "at most 64 layers"),
    "more units than weights": (assign("net.hidden", 60_000), "float32 numbers, got"),
    "a dropout of all": (assign("net.dropout", 1), "dropout from 0 to below 1"),
    "quantiles of others": (
        assign("reference.volatility_HQ", [[-2.0, 0.0, 2.0]] * 4),
        "base_HQ as the manifest's quantiles make it",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_no_training_writes_is_refused_in_a_sentence(folder: Path, name: str) -> None:
    change, words = MANIFESTS[name]
    change_manifest(folder, change)
    with pytest.raises(ArtifactError, match=words):
        load_forecaster(folder)
    refusal(folder)


@pytest.mark.parametrize("name", OLD_MANIFESTS)
def test_a_network_that_no_training_made_is_refused_in_a_sentence(old_folder: Path, name: str) -> None:
    change, words = OLD_MANIFESTS[name]
    change_manifest(old_folder, change)
    with pytest.raises(ArtifactError, match=words):
        load_forecaster(old_folder)
    refusal(old_folder)


@pytest.mark.parametrize(
    "part",
    [
        "net",
        "spec.levels",
        f"{SILVER}.session.calendar",
        f"{SILVER}.scaler.return_unit",
        f"{SILVER}.reference.mase_scale_H",
    ],
)
def test_a_network_fitted_to_something_else_is_refused(folder: Path, sound: Path, part: str) -> None:
    values = {"net": {"name": "gru"}, "spec.levels": [0.2, 0.5, 0.9], f"{SILVER}.session.calendar": "CMEGlobex_Gold"}
    change_manifest(folder, assign(part, values.get(part, [1.0] * 4 if "mase" in part else 0.5)))
    for name in (WEIGHTS, NETWORK):
        (folder / name).write_bytes((sound / name).read_bytes())
    restored = json.loads((folder / MANIFEST).read_text())
    restored["files"] = json.loads((sound / MANIFEST).read_text())["files"]
    (folder / MANIFEST).write_text(json.dumps(restored))
    sign(folder)
    assert f"weights fitted to net, spec, {', '.join(FITTED)} of {folder / MANIFEST}, got others" in refusal(folder)


@pytest.mark.parametrize("change", [lambda tensors: tensors.clear(), filled(float("nan"))], ids=["none", "NaN"])
def test_weights_of_another_model_are_refused(folder: Path, change: Callable[[Tensors], object]) -> None:
    change_weights(folder, change)
    assert f"{WEIGHTS} as {MANIFEST} names it, got one of another model" in refusal(folder)


def test_a_graph_that_is_none_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / NETWORK).write_bytes(b"\x80\x04")
    change_manifest(folder, lambda values: values["files"].update({NETWORK: sha256(folder / NETWORK)}))
    assert "Expected an ONNX graph, got this: " in refusal(folder)


@dataclass(frozen=True)
class ByEdge(Climatology):
    edges_E: Array
    q_EHQ: Array


def test_a_baseline_may_have_arrays_with_axes_of_its_own(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BASELINES, "by_edge", ByEdge)  # type: ignore[arg-type]
    forecaster, folder = load_forecaster(sound), tmp_path / "model"
    added = ByEdge(np.zeros((4, 3)), np.arange(2.0), np.zeros((2, 4, 3)))
    reference = replace(forecaster.reference, baselines={**forecaster.reference.baselines, "by_edge": added})
    save_forecasters([replace(forecaster, reference=reference)], folder)
    for name, array in vars(load_forecaster(folder).reference.baselines["by_edge"]).items():
        np.testing.assert_array_equal(array, getattr(added, name))
    change_manifest(folder, lambda values: silver(values)["reference"]["baselines"]["by_edge"]["edges_E"].pop())
    assert "by_edge.q_EHQ to be 1 x 4 x 3 numbers" in refusal(folder)


@pytest.mark.parametrize("kind", ["third_folder", "old_folder"])
def test_a_model_of_an_earlier_format_gives_the_same_numbers(
    old_forecaster: Forecaster, hourly_bars: pl.DataFrame, kind: str, request: pytest.FixtureRequest
) -> None:
    old, new = load_forecaster(request.getfixturevalue(kind)), old_forecaster
    states = old.season_states(old.grid(hourly_bars))  # it does not go on learning
    np.testing.assert_allclose(old.forecast(hourly_bars, states).q_HQ, new.forecast(hourly_bars).q_HQ, rtol=1e-5)
    assert old.network.config == new.network.config
    assert list(old.reference.baselines) == ["persistence", "climatology", "volatility"]


def test_a_training_cannot_begin_with_the_weights_of_an_earlier_format(
    old_forecaster: Forecaster, sound: Path, hourly_bars: pl.DataFrame, silver: Session
) -> None:
    data = make_data(symbol_bars(hourly_bars, silver), spec=SPEC)
    data.setup()
    assert "'volatilities': 2}, got {" in find_obstacle(old_forecaster, CONFIG, data)
    later = replace(load_forecaster(sound).provenance, trained_until="2014-02-01T00:00:00+00:00")
    newer = replace(load_forecaster(sound), provenance=later)
    assert find_obstacle(newer, CONFIG, data) == ""
    assert find_obstacle(newer, replace(CONFIG, hidden=5), data).startswith("of {'name': 'lstm', 'hidden': 5")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b'{"format": 1', b"\xff\xfe\x00", b"[" * 100_000, b'{"format": 1' + b"0" * 5000 + b"}"],
    ids=["empty", "a list", "null", "cut", "no text", "deep", "a long number"],
)
def test_a_manifest_that_is_no_object_is_refused_in_a_sentence(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    sign(folder)
    assert MANIFEST in refusal(folder)


TENSORS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "one too few": (lambda tensors: tensors.pop("gate.bias"), "got others or none as gate.bias"),
    "one too many": (lambda tensors: tensors.update(more=torch.zeros(1)), "got others or none as more"),
    "none": (lambda tensors: tensors.clear(), "the tensors of such a network alone"),
    "another shape": (replaced("head.weight", lambda tensor: tensor[:1]), r"head.weight of \(2, 4\) .* got \(1, 4\)"),
    "no shape": (replaced("lstm.weight_ih_l0", lambda tensor: tensor[0, 0]), r"lstm.weight_ih_l0 of .*, got \(\)"),
    "half precision": (replaced("head.weight", torch.Tensor.half), "float32 numbers, got .* of float16"),
    "whole numbers": (replaced("head.weight", torch.Tensor.int), "float32 numbers, got .* of int32"),
    "NaN": (filled(float("nan")), "finite numbers in head.weight, got others"),
    "infinity": (filled(float("inf")), "finite numbers in head.weight, got others"),
    "other quantiles": (replaced("base_HQ", lambda tensor: 2 * tensor), "base_HQ as the manifest's quantiles make it"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_weights_of_no_such_network_are_refused_in_a_sentence(old_folder: Path, name: str) -> None:
    change, words = TENSORS[name]
    change_weights(old_folder, change)
    with pytest.raises(ArtifactError, match=words):
        load_forecaster(old_folder)
    refusal(old_folder)


@pytest.mark.parametrize(
    "alter",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: content + b"0",
        lambda content: (2**62).to_bytes(8, "little") + content[8:],
        lambda content: content[:8] + b"[" + content[9:],
        lambda content: b"\x80\x04" + content,
    ],
    ids=["empty", "a header cut", "cut", "longer", "a huge header", "a broken header", "a pickle"],
)
def test_weights_that_are_no_safetensors_are_refused_in_a_sentence(
    folder: Path, alter: Callable[[bytes], bytes]
) -> None:
    (folder / WEIGHTS).write_bytes(alter((folder / WEIGHTS).read_bytes()))
    sign(folder)
    assert "to hold a safetensors file, got this: " in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda sums: "",
        lambda sums: sums + sums,
        lambda sums: sums.splitlines()[0],
        lambda sums: sums.replace("\n", "\r\n"),
        lambda sums: sums.replace("manifest", "../manifest"),
        lambda sums: f"{sums}{'0' * 64}  /etc/passwd\n",
        lambda sums: sums.replace("  ", " *"),
    ],
    ids=["empty", "twice", "one", "CRLF", "a path", "another file", "binary"],
)
def test_sums_of_other_files_are_refused_in_a_sentence(folder: Path, change: Callable[[str], str]) -> None:
    (folder / SUMS).write_bytes(change((folder / SUMS).read_text()).encode())
    assert f"{SUMS} of {NETWORK}, {WEIGHTS}, {MANIFEST} alone" in refusal(folder)


@pytest.mark.parametrize("name", [NETWORK, WEIGHTS, MANIFEST, SUMS])
@pytest.mark.parametrize("other", ["nothing", "a folder", "a pipe", "a link to nothing", "a larger file"])
def test_what_is_no_file_too_large_or_missing_is_refused_at_once(folder: Path, name: str, other: str) -> None:
    path = folder / name
    path.unlink()
    if other == "a folder":
        path.mkdir()
    elif other == "a pipe":
        os.mkfifo(path)
    elif other == "a link to nothing":
        path.symlink_to("nothing")
    elif other == "a larger file":
        with path.open("wb") as file:
            file.truncate(2**40)  # takes no room
    assert f"a model folder with {name}" in refusal(folder)


def test_a_model_of_the_first_format_serves_without_a_flag_of_its_level(
    old_folder: Path, hourly_bars: pl.DataFrame
) -> None:
    folder = old_folder
    dear = hourly_bars.with_columns(pl.col("open", "high", "low", "close") * 100)
    assert load_forecaster(folder).forecast(dear).level_jump.startswith("a close of ")
    change_manifest(folder, lambda values: values.update(format=1) or values.pop("closes"))
    first = load_forecaster(folder)
    assert first.closes is None and first.forecast(dear).level_jump == ""
    save_forecasters([first], folder.parent / "again")
    again = load_forecaster(folder.parent / "again")
    assert again.closes is None and again.forecast(dear).q_HQ.tolist() == first.forecast(dear).q_HQ.tolist()


def test_a_model_keeps_the_quote_of_its_symbol(folder: Path, hourly_bars: pl.DataFrame) -> None:
    change_manifest(folder, assign_silver("quote", {"currency": "JPY", "decimals": 1}))
    assert load_forecaster(folder).forecast(hourly_bars).quote == Quote("JPY", 1)
    change_manifest(folder, assign_silver("quote", None))
    nameless = load_forecaster(folder)
    assert nameless.quote is None
    save_forecasters([nameless], folder.parent / "again")
    assert load_forecaster(folder.parent / "again").quote is None


def test_a_model_of_the_second_format_guesses_the_quote_of_its_symbol(old_folder: Path) -> None:
    assert load_forecaster(old_folder).quote == Quote("USD", 2)


def test_a_link_to_the_file_is_followed(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "blob")
    (folder / WEIGHTS).symlink_to("../blob")
    load_forecaster(folder)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A gigabyte more than now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_network_larger_than_its_weights_takes_no_memory(old_folder: Path, little_memory: None) -> None:
    change_manifest(old_folder, assign("net.hidden", 60_000))  # 58 GB
    assert "float32 numbers, got" in refusal(old_folder)


def test_weights_that_give_no_finite_forecast_give_none(
    hourly_bars: pl.DataFrame, silver: Session, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "model", hourly_bars, silver, seed=1, drift=1e38, max_drift=math.inf)
    with pytest.raises(ArtifactError, match="Expected finite forecasts of XAGUSD, got others by its weights"):
        load_forecaster(model).forecast(hourly_bars)


def test_bars_beyond_any_price_give_no_forecast(sound: Path, hourly_bars: pl.DataFrame) -> None:
    step = pl.int_range(pl.len()) % 2
    wild = hourly_bars.with_columns(
        high=pl.when(step == 0).then(1e300).otherwise(pl.col("high")),
        low=pl.when(step == 0).then(1e-300).otherwise(pl.col("low")),
    )
    with pytest.raises(NotEnoughBars, match="moves beyond any price"):
        load_forecaster(sound).forecast(wild)
    assert np.isfinite(load_forecaster(sound).forecast(hourly_bars).q_HQ).all()
