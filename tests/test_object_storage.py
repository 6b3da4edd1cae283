"""Bars, backups and models in a bucket, of a real server on loopback that speaks S3."""

import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from commands import mistake, run, succeed
from conftest import make_files
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer
from processes import wait_for
from serving import Server, make_servable, running
from test_full_disk import RETRAIN

from lstm_ts.errors import ConfigError, LstmTsError
from lstm_ts.market.bars import BAR_SCHEMA, HOURLY_SCHEMA
from lstm_ts.market.session import Session
from lstm_ts.store.bar_store import BarStore
from lstm_ts.store.object_storage import check_free, local_copy, upload

BUCKET = "bars-and-models"
MINUTES = "ts,open,high,low,close\n2024-01-03T15:{:02}:00Z,20,21,19,20.5\n"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        with closing(boto3.client("s3")) as client:
            client.create_bucket(Bucket=BUCKET)
            yield client
    server.stop()


def test_bars_are_ingested_from_a_bucket(bucket: Any, tmp_path: Path) -> None:
    for name, minute in ("b", 1), ("a", 0), ("other", 2):
        bucket.put_object(Bucket=BUCKET, Key=f"minutes/2024/{name}.csv", Body=MINUTES.format(minute).encode())
    succeed("ingest", tmp_path, "source=files", f"source.paths=s3://{BUCKET}/minutes/*/[ab].csv", "source.zone=UTC")
    stored = BarStore(tmp_path / "data/raw/XAGUSD", BAR_SCHEMA).read_stamps()
    assert stored.to_list() == [datetime(2024, 1, 3, 15, minute, tzinfo=UTC) for minute in (0, 1)]


def test_a_parquet_file_is_read_by_its_url(bucket: Any, hourly_bars: pl.DataFrame) -> None:
    with BytesIO() as file:
        hourly_bars.write_parquet(file)
        bucket.put_object(Bucket=BUCKET, Key="hours.parquet", Body=file.getvalue())
    batches = make_files(f"s3://{BUCKET}/hours.parquet").read_batches()
    assert pl.concat([batch.bars for batch in batches])["ts"].equals(hourly_bars["ts"])


def test_an_object_with_brackets_in_its_name_is_read_before_a_pattern_is_matched(bucket: Any) -> None:
    for name, minute in ("x[1].csv", 3), ("x1.csv", 4):
        bucket.put_object(Bucket=BUCKET, Key=name, Body=MINUTES.format(minute).encode())
    [batch, *_] = make_files(f"s3://{BUCKET}/x[1].csv", zone="UTC").read_batches()
    assert batch.bars["ts"].dt.minute().to_list() == [3]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"s3://{BUCKET}/nothing.csv", "Expected a file, or a glob that matches one"),
        (f"s3://{BUCKET}/nothing/*.csv", "Expected a file, or a glob that matches one"),
        ("s3://another-bucket/*.csv", "Expected an answer of the storage of s3://another-bucket, got: .*NoSuchBucket"),
        ("ftp://there/minutes.csv", "Expected a URL such as s3://bucket/folder, got ftp://there/minutes.csv"),
    ],
)
def test_a_url_that_gives_no_bars_is_one_sentence(bucket: Any, url: str, words: str) -> None:
    with pytest.raises(LstmTsError, match=words):
        next(make_files(url).read_batches())


def test_a_url_of_another_kind_needs_no_extra_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(ConfigError, match="Expected a URL such as s3://bucket/folder, got file:///backup"):
        check_free("file:///backup", mark="backup.json")


def test_of_two_uploads_to_one_url_at_once_the_second_is_refused(bucket: Any, tmp_path: Path) -> None:
    url, folders = f"s3://{BUCKET}/backups/twice", [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        for name in ("ledger.dump", "backup.json"):
            (folder / name).write_text(folder.name)
    upload(folders[0], url, first="ledger.dump", last="backup.json")
    with pytest.raises(ConfigError, match=rf"nothing at {url} yet, got what another process uploads there"):
        upload(folders[1], url, first="ledger.dump", last="backup.json")
    with pytest.raises(ConfigError, match=f"Expected a URL outside of {url}, which has a backup.json"):
        check_free(f"{url}/another/deeper", mark="backup.json")
    with local_copy(url) as there:
        assert {path.name: path.read_text() for path in there.iterdir()} == {"ledger.dump": "one", "backup.json": "one"}
    bucket.delete_object(Bucket=BUCKET, Key="backups/twice/backup.json")  # as before the end of the first one
    with pytest.raises(ConfigError, match=rf"nothing at {url} yet, got what another process uploads there"):
        upload(folders[1], url, first="ledger.dump", last="backup.json")
    with local_copy(url) as there:
        assert {path.name: path.read_text() for path in there.iterdir()} == {"ledger.dump": "one"}


@pytest.mark.slow
def test_a_backup_lies_in_a_bucket_whole_and_comes_back(
    bucket: Any, hourly_bars: pl.DataFrame, empty: Path, silver: Session, tmp_path: Path
) -> None:
    here, there, url = tmp_path / "here", tmp_path / "there", f"s3://{BUCKET}/backups/today"
    here.mkdir()
    make_servable(here, empty, hourly_bars, silver)

    def paths(folder: Path) -> list[str]:
        databases = ("registry.uri=sqlite:///{}/mlflow.db", "registry.ledger=sqlite:///{}/ledger.db")
        return [f"paths.data={folder}/data", f"folder={url}", *(text.format(folder) for text in databases)]

    succeed("backup", here, *paths(here))
    listed = bucket.list_objects_v2(Bucket=BUCKET, Prefix="backups/today/")["Contents"]
    written = {each["Key"].removeprefix("backups/today/"): each["LastModified"] for each in listed}
    assert len(written) > 5 and written["backup.json"] == max(written.values())
    assert "Expected nothing at" in mistake(run("backup", here, *paths(here)))
    assert succeed("backup", here, "action=check", *paths(here))[-1].startswith(url)
    succeed("backup", there, "action=restore", *paths(there))
    stored = [BarStore(each / "data/processed/XAGUSD", HOURLY_SCHEMA).read() for each in (here, there)]
    assert stored[0].equals(stored[1])
    bucket.delete_object(Bucket=BUCKET, Key="backups/today/backup.json")
    assert "got no backup.json of one" in run("backup", there, "action=check", *paths(there)).stderr


@pytest.mark.slow
def test_models_in_a_bucket_are_trained_promoted_and_served(bucket: Any, silver: Session, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(uri).create_experiment("XAGUSD", artifact_location=f"s3://{BUCKET}/models")
    databases = (f"registry.uri={uri}", f"registry.ledger=sqlite:///{tmp_path}/ledger.db")
    succeed("ingest", tmp_path, "source.start=2019-01-01", "source.end=2019-05-01")
    succeed("process", tmp_path)
    for seed in (1, 2):
        succeed("retrain", tmp_path, *RETRAIN, *databases, f"seed={seed}")
    succeed("registry", tmp_path, *databases, "action=promote", "version=2", "reason=tried")
    assert not (tmp_path / "artifacts").exists()
    with running(Server(tmp_path)) as server:
        wait_for(lambda: server.health().ready)
        answer = server.client.get("/forecast", params={"symbol": "XAGUSD"}).raise_for_status().json()
        assert answer["model"]["version"] == 2
