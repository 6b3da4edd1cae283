"""What is wrong on a command line, in one sentence that says what to type."""

import re
import socket
from pathlib import Path

import pytest
from commands import list_group
from omegaconf import OmegaConf
from processes import free_port

from dashboard.server import main as dashboard
from lstm_ts import evaluate, ingest, pipeline, predict, retrain, train
from lstm_ts.cli import compose
from lstm_ts.configuration.command_line import read_command_line
from lstm_ts.errors import ConfigError
from lstm_ts.ports import check_port
from lstm_ts.registry import __main__ as registry
from serve.startup import main as serve


@pytest.mark.parametrize(
    ("command", "typed", "words"),
    [
        ("registry", "history", "got history; write action=history"),
        ("train", "quickstart", "write +experiment=quickstart"),
        ("train", "seed", "got seed; write seed=…"),
        ("train", "--symbol=XAGUSD", "write it without dashes: symbol=XAGUSD"),
        ("train", "seed =3", "without blanks around ="),
        ("train", "seed= 3", "without blanks around ="),
        ("train", "=3", "Expected key=value"),
        ("train", "paths.data=/a\udcff", r"Expected arguments in UTF-8, got 'paths.data=/a\udcff'; rename"),
        ("train", "symbol=XAG&USD", """type 'symbol="XAG&USD"'"""),
        ("ingest", "source.paths=[a.csv,b (1).csv]", """type 'source.paths=["a.csv","b (1).csv"]'"""),
        ("train", "paths.data=${HOME}/x", "write ${oc.env:HOME} for an environment variable"),
        ("train", "paths.data=${", "write ${oc.env:NAME} for an environment variable"),
        ("ingest", "minutes/*.csv", "write source.paths='minutes/*.csv'"),
        ("ingest", "source", "got source; write source=…"),
        ("train", "net=[1]", f"Expected net= with one of {list_group('net')}, got [1]"),
        ("process", "", "got an empty argument; leave it out"),
        ("process", "  ", "got an empty argument; leave it out"),
        ("process", "~paths.data", "got ~paths.data, which deletes one; leave it out"),
        ("registry", "version=<run>", "got <run>, a placeholder; replace it"),
        ("train", "--hlep", "got --hlep; did you mean --help?"),
        ("train", "-cfg=job", "got -cfg=job; did you mean --cfg?"),
        ("train", "--info=foo", "Expected --info with one of all, config"),
        ("train", "--resolve", "Expected --cfg job beside --resolve"),
        ("train", "--shell-completion", "Expected --shell-completion install=bash"),
        (
            "process",
            "--config-dir=/nowhere",
            "a folder after --config-dir, got /nowhere; name one that exists",
        ),
    ],
)
def test_an_argument_that_is_no_override_is_told_as_one_would_type_it(command: str, typed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_command_line([typed], command)


def test_info_may_stand_before_overrides() -> None:
    assert read_command_line(["--info", "seed=3"], "train") == ["--info=all", "seed=3"]
    assert read_command_line(["seed=3", "-i", "config"], "train") == ["--info=config", "seed=3"]
    assert read_command_line(["--cfg", "job", "--resolve"], "train") == ["--cfg", "job", "--resolve"]


@pytest.mark.parametrize(
    "name",
    [
        "my file.csv",
        "all my files/of last year.csv",
        "bars (1).csv",
        "a,b.csv",
        "a=b.csv",
        "silver[1].csv",
        "größe.csv",
    ],
)
def test_a_path_needs_no_quotes_where_it_exists(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    assert compose("ingest", ["source=files", f"source.paths={name}"]).source.paths == name
    by_shell = f"source.paths={name}".split()  # what a shell hands over where nothing is quoted
    assert compose("ingest", ["source=files", *by_shell]).source.paths == name


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of (x)")
    typed = ["source=files", "paths.data=~/x", "source.paths=~/minutes/*.csv"]
    assert read_command_line(typed, "ingest") == [
        "source=files",
        'paths.data="/home/of (x)/x"',
        'source.paths="/home/of (x)/minutes/*.csv"',
    ]
    assert read_command_line(["folder=~/x"], "backup") == ['folder="/home/of (x)/x"']
    assert read_command_line(["home=~/x"], "pipeline") == ['home="/home/of (x)/x"']
    assert read_command_line(["warm_start=~/x"], "train") == ['warm_start="/home/of (x)/x"']


@pytest.mark.parametrize("start", ["scratch", "champion", "both"])
def test_what_a_retraining_starts_from_is_no_date(start: str) -> None:
    assert compose("retrain", [f"retrain.start={start}"]).retrain.start == start


def test_of_a_key_that_is_typed_twice_the_last_value_is_the_wrong_one() -> None:
    with pytest.raises(ConfigError, match="got seed=x; write it as in seed=0"):
        compose("train", ["seed=3", "seed=x"])


@pytest.mark.parametrize("name", ["data/größe (x)", "a=b", 'with "quotes" (2)'])
def test_a_folder_that_is_still_to_be_made_needs_no_quotes(name: str) -> None:
    assert compose("ingest", [f"paths.data={name}"]).paths.data == name


def test_blanks_that_the_shell_has_split_are_told_with_the_quotes_to_type() -> None:
    with pytest.raises(ConfigError, match=re.escape("""quote both: 'source.paths="no such file.csv"'""")):
        read_command_line(["source=files", "source.paths=no", "such", "file.csv", "symbol=X"], "ingest")


@pytest.mark.parametrize(
    ("command", "typed", "words"),
    [
        ("ingest", ["source=files", "minutes/*.csv"], "write source.paths='minutes/*.csv'"),
        ("registry", ["paths.outputs={there}", "show"], "write action=show"),
        ("train", ["paths.data={there}", "quickstart"], "write +experiment=quickstart"),
        ("registry", ["reason=spreads", "doubled"], """quote both: 'reason="spreads doubled"'"""),
    ],
)
def test_a_word_is_taken_for_part_of_the_value_before_it_only_where_that_is_not_whole(
    command: str, typed: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_command_line([text.format(there=tmp_path) for text in typed], command)


@pytest.mark.parametrize(
    ("command", "typed", "words"),
    [
        ("retrain", "net.hiden=3", "did you mean net.hidden=32 (conf/net/lstm.yaml)?"),
        ("retrain", "hiden=3", "did you mean net.hidden=32 (conf/net/lstm.yaml)?"),
        ("retrain", "epochs=3", "did you mean trainer.max_epochs=8 (conf/trainer/default.yaml)?"),
        ("retrain", "paths.dat=x", "did you mean paths.data=data (conf/project.yaml)?"),
        ("retrain", "+nonsense=1", "Expected a key of retrain, got +nonsense=1; its keys are"),
        ("retrain", "trainer.max_steps=5", "write +trainer.max_steps=5"),
        ("ingest", "zone=UTC", "Expected a key of ingest, got zone=UTC; did you mean"),
        ("ingest", "sourcee=files", "did you mean source=files?"),
        ("ingest", "sourcee=filess", "did you mean source=synthetic?"),
        ("retrain", "+experiment=nope", "Expected +experiment= with one of pooled, quickstart, sweep_capacity"),
        ("retrain", "experiment=quickstart", "Expected +experiment=quickstart, got experiment=quickstart"),
        ("retrain", "trainer=nope", "Expected trainer= with one of default, got nope"),
        ("retrain", "levels=0.1,0.5", "write 'levels=[0.1,0.5]' for a list"),
        ("retrain", "+seed=1", "without the +"),
        ("retrain", "horizon=abc", "Expected a whole number for horizon, got horizon=abc; write it as in horizon=24"),
        ("retrain", "seed=x", "Expected a whole number for seed, got seed=x; write it as in seed=0"),
        ("retrain", "seed=null", "Expected a whole number for seed"),
        ("retrain", "paths.outputs=a%20b", "Expected paths.outputs without ? and %, which mean something else in the"),
        ("retrain", "seed=-1", "Expected seed from 0 to 4294967295, got -1"),
        ("train", "trainer.max_epochs=-1", "Expected at least one epoch to train, got trainer.max_epochs=-1"),
        ("train", "+trainer.max_steps=0", "Expected something to train on, got trainer.max_steps=0"),
        ("train", "+trainer.limit_val_batches=0", "Expected something to train on, got trainer.limit_val_batches=0"),
        ("train", "+trainer.accumulate_grad_batches=0", "got trainer.accumulate_grad_batches=0"),
        ("train", "data.seed=-1", "Expected data.seed from 0 to 4294967295, got -1"),
        ("train", "split.valid_from=2024-13-01", "such as 0.7 for split.valid_from, got 2024-13-01"),
        ("ingest", "span.start=2024-02-30", "such as 2015-01-01 for span.start, got 2024-02-30"),
        ("ingest", "source.start=2020", "for source.start, got 2020"),
        ("train", "trainer.devices=1000", "Expected trainer.devices of at most"),
        ("train", "optimisation.lr=nan", "Expected a finite number for optimisation.lr, got optimisation.lr=nan"),
        ("train", "levels=[0.1,0.5,inf]", "Expected a finite number for levels"),
        ("train", "+trainer.limit_train_batches=nan", "Expected a finite number for trainer.limit_train_batches"),
        ("monitor", "feed.missing_share=nan", "write it as in feed.missing_share=0.05"),
        ("serve", "limits.idle_s=nan", "Expected a finite number for limits.idle_s"),
        ("dashboard", "poll_s=-inf", "Expected a finite number for poll_s"),
        ("ingest", "max_mismatch=inf", "Expected a finite number for max_mismatch"),
        ("retrain", "tsteps=4.5", "Expected a whole number for tsteps"),
        ("retrain", "weight_averaging=true", "Expected a number for weight_averaging"),
        ("retrain", "levels=0.5", "Expected a list for levels"),
        ("retrain", "gate.steps=6", "got gate.steps=6; write it as in gate.steps=[1,6]"),
        ("retrain", "split.valid_from=[1]", "for split.valid_from"),
        ("retrain", "symbol=[a]", "symbol"),
        ("retrain", "paths=data/real", "Expected a value for one of paths.data, paths.outputs, got paths=data/real"),
        ("retrain", "paths.data=${nowhere}", "Interpolation key 'nowhere' not found"),
        ("serve", "port=x", "write it as in port=8000"),
        ("serve", "flags.volatility=[a,b]", "Expected numbers for flags.volatility, got flags.volatility=[a,b]"),
        (
            "pipeline",
            "symbols=XAGUSD",
            "Expected a list for symbols, got symbols=XAGUSD; write it as in symbols=[XAGUSD]",
        ),
        ("dashboard", "origins=a:80", "write it as in origins=[a:80]"),
        ("dashboard", "auth.basic=[a,b]", "Expected text for auth.basic, got auth.basic=[a,b]"),
        ("process", "source=files", "Expected a key of process, got source=files; its keys are"),
        ("train", "+experiments=quickstart", "did you mean +experiment=quickstart?"),
        ("predict", "source.zone=UTC", "did you mean zone=null (conf/predict.yaml)?"),
        ("ingest", "source=ib source.max_mismatch=null", "write it as in source.max_mismatch=0.02"),
        ("ingest", "source=ib source.max_mismatch=abc", "Expected a number for source.max_mismatch"),
        ("ingest", "source.session=null", "Expected a value for one of symbol.session.calendar, symbol.session.zone"),
        ("train", "spec.tsteps=null", "Expected a whole number for spec.tsteps, got spec.tsteps=null"),
        ("serve", "forecast_log.poll_s=null", "Expected a number for forecast_log.poll_s"),
        ("serve", "name=null", "Expected text for name, got name=null; write it as in name=XAGUSD"),
        ("pipeline", "home=null", "Expected text for home, got home=null"),
    ],
)
def test_a_key_or_a_value_that_does_not_fit_is_told_with_what_exists(command: str, typed: str, words: str) -> None:
    with pytest.raises(Exception) as raised:
        compose(command, [*(["model=x"] if command == "predict" else []), *typed.split()])
    assert words in str(raised.value)
    assert "append to your config" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("retrain", "split.valid_from=2014-10-01"),
        ("retrain", "trainer.devices=auto"),
        ("retrain", "+trainer.max_steps=5"),
        ("retrain", "trainer.precision=32"),
        ("pipeline", "retries.first_delay_s=0.2"),
        ("serve", "forecast_log.poll_s=1"),
        ("ingest", "source.session=${symbol.session}"),
        ("pipeline", "home=dagster"),
    ],
)
def test_a_value_of_another_kind_that_is_allowed_stays_allowed(command: str, typed: str) -> None:
    compose(command, [typed])


@pytest.mark.parametrize("key", ["operator_password", "auth.basic", "auth.cookie_secret", "service.key"])
def test_a_secret_of_digits_stays_as_it_was_typed(key: str) -> None:
    assert OmegaConf.select(compose("dashboard", [f"{key}=12_345"]), key) == "12_345"


@pytest.mark.parametrize(
    ("program", "typed", "words"),
    [
        (train, ["paths.data=reel"], "there is no folder reel, but there are bars in real: set paths.data"),
        (
            train,
            ["paths.data=real", "symbol=XAUUSD"],
            "there are bars of XAGUSD: set symbol to one of those",
        ),
        (predict, ["model=outputs/train/<run>/model"], "model=outputs/train/2026-01-02/03-04-05/model is the newest"),
        (predict, [], "got none; add model=outputs/train/2026-01-02/03-04-05/model, the newest one"),
        (evaluate, ["model=x"], "model=outputs/train/2026-01-02/03-04-05/model is the newest"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(program, typed, words, tmp_path, monkeypatch, command) -> None:
    (tmp_path / "real/processed/XAGUSD").mkdir(parents=True)
    (tmp_path / "real/processed/XAGUSD/manifest.json").touch()
    for run in ("2025-12-31/23-00-00", "2026-01-02/03-04-05"):
        model = tmp_path / "outputs/train" / run / "model"
        model.mkdir(parents=True)
        (model / "manifest.json").touch()
    before = set(tmp_path.glob("outputs/*/*/*"))
    monkeypatch.chdir(tmp_path)
    assert words in command(program.main, *typed).mistake
    assert set(tmp_path.glob("outputs/*/*/*")) == before, "a refused command left a run folder"


@pytest.mark.parametrize(
    ("main", "typed", "words"),
    [
        (serve, "registry.uri=outputs", "Expected registry.uri as sqlite:///<file> or postgresql+psycopg://"),
        (dashboard, "registry.uri=outputs", "Expected registry.uri as sqlite:///<file> or postgresql+psycopg://"),
        (registry.main, "registry.uri=outputs", "Expected registry.uri as sqlite:///<file> or postgresql+psycopg://"),
        (retrain.main, "registry.uri=outputs", "Expected registry.uri as sqlite:///<file> or postgresql+psycopg://"),
        (
            retrain.main,
            "split.valid_from=0.5",
            "Expected no split here, which only train reads, got split.valid_from=0.5",
        ),
        (serve, "registry.ledger=outputs", "Expected registry.ledger as sqlite:///<file> or postgresql+psycopg://"),
        (
            serve,
            "registry.ledger=mysql://u:secret@h/x",
            "Expected the ledger as sqlite:///<file> or postgresql+psycopg://",
        ),
        (dashboard, "service.url=localhost:8000", "Expected service.url such as http://127.0.0.1:8000"),
        (dashboard, "service.url=http://127.0.0.1:99999", "Expected service.url such as http://127.0.0.1:8000"),
        (dashboard, "service.url=http://me:secret@proxy", "may give it), without user, query or fragment, got"),
        (dashboard, "auth.oauth.provider=githb", "Expected auth.oauth.provider as one of "),
        (dashboard, "auth.oauth.provider=github", "set LSTM_TS_OAUTH_KEY and LSTM_TS_OAUTH_SECRET"),
        (pipeline.main, "home=", "Expected home as a folder"),
        (
            pipeline.main,
            "instance.concurrency=x",
            "Expected settings of instance that Dagster takes, got: Value at path",
        ),
        (train.main, "--cfg jobs", "Expected --cfg job, --cfg hydra or --cfg all, got jobs"),
        (dashboard, "origins=[https://silver.example.com]", "leave out https:// and what follows the port"),
        (dashboard, "host=nowhere.invalid auth.basic=x", "Expected host to be an address of this machine"),
        (dashboard, "host=8.8.8.8 auth.basic=x", "Expected host to be an address of this machine, got 8.8.8.8"),
        (ingest.main, "source=ib source.client=ib_async.IB", "Expected a value for one of source.client._target_"),
        (ingest.main, "source=ib source.client._target_=ib_asink.IB", "pip install ib_asink, or correct"),
        (ingest.main, "source._target_=lstm_ts.sources.synthetic.No", "Expected _target_ as the name of a class"),
        (ingest.main, "source=ib source.connect_s=-1", "above 0, got 30, -1 and 60; correct them"),
        (
            ingest.main,
            "source=ib span.start=2024-01-01 source.port={free}",
            "got Connection refused; start it and log in",
        ),
    ],
)
def test_an_address_or_a_client_that_is_none_is_one_sentence(main, typed, words, tmp_path, command) -> None:
    options = typed.format(free=free_port()).split()
    port = [f"port={free_port()}"] if main in (serve, dashboard, pipeline.main) else []
    said = command(main, f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs", *port, *options).mistake
    assert words in said and not re.search("Errno|bind on|secret@", said)


def test_a_port_in_use_is_told_in_the_systems_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(ConfigError) as told:
            check_port("127.0.0.1", port)
        with pytest.raises(ConfigError, match=rf"Expected a free port, got \[::\]:{port}: Address already in use"):
            check_port("::", port, takes_ipv4=True)
        check_port("::", port)
    said = (
        f"Expected a free port, got 127.0.0.1:{port}: Address already in use; is it running already? If not, set port=…"
    )
    assert str(told.value) == said
