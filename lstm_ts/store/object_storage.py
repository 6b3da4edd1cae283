"""Copy objects of `s3://bucket/…` to local files, and back. The only importer of cloudpathlib."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lstm_ts.errors import ConfigError, DataError

WILD = frozenset("*?[")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")  # codes of S3 where an object is, or is being made


def is_url(path: str) -> bool:
    return "://" in path


@contextmanager
def open_storage(url: str) -> Iterator[Any]:
    """Yield the URL as a path of cloudpathlib.

    Raises    ConfigError: the URL is of another kind, or the extra is missing; DataError: the storage has failed
    """
    if not url.lower().startswith("s3://"):
        raise ConfigError(
            f"Expected a URL such as s3://bucket/folder, got {url}; give an s3:// URL, or a path on this machine"
        )
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from cloudpathlib.exceptions import CloudPathException
    except ImportError:
        raise ConfigError(f"Expected cloudpathlib to be installed for {url}; pip install 'lstm_ts[s3]'") from None
    try:
        yield _client().CloudPath(url)
    except CloudPathException as error:
        raise ConfigError(f"Expected a URL such as s3://bucket/folder, got {url}: {error}") from error
    except (BotoCoreError, ClientError) as error:
        message = " ".join(str(error).split())
        raise DataError(
            f"Expected an answer of the storage of {url}, got: {message}; check the variables AWS_…"
        ) from error


@cache
def _client() -> Any:
    """Return the client; its local copies of objects last as long as this process."""
    from cloudpathlib import S3Client

    return S3Client(file_cache_mode="tmp_dir")


def copy_matches(pattern: str) -> list[Path]:
    """Return local copies, which last as long as this process, of the objects that match a URL with *, ? and **, or of
    the object of that very name.

    Raises    as `open_storage`
    """
    parts = pattern.split("/")
    fixed = next((n for n, part in enumerate(parts) if WILD & set(part)), len(parts))
    with open_storage("/".join(parts[:fixed])) as start:
        rest = "/".join(parts[fixed:])
        named = start / rest if rest else start
        found = [named] if not rest or _is_object(named) else start.glob(rest)
        return [Path(each.fspath) for each in found if each.is_file()]


def upload(folder: Path, url: str, *, first: str, last: str) -> None:
    """Upload a folder.

    first     file that every upload to this URL has, and begins with: only one can
    last      file that goes last and marks the folder complete
    Raises    as `open_storage`; also ConfigError: another upload has begun there
    """
    with open_storage(url) as there:
        _claim(there / first)
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda path: path == folder / last):
            copy = there / path.relative_to(folder).as_posix()
            copy.upload_from(path, force_overwrite_to_cloud=path == folder / first)


def _claim(path: Any) -> None:
    """Make an empty object, where there must be none; storages without such conditions make it anyway.

    Raises    ConfigError: there is one
    """
    from botocore.exceptions import ClientError

    try:
        path.client.client.put_object(Bucket=path.bucket, Key=path.key, IfNoneMatch="*")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in TAKEN:
            raise ConfigError(
                f"Expected nothing at {path.parent} yet, got what another process uploads there; give another URL"
            ) from None
        if code != "NotImplemented":
            raise


def download(url: str, folder: Path) -> None:
    """Raises    as `open_storage`; also DataError: no object is there"""
    with open_storage(url) as there:
        if not there.exists():
            raise DataError(f"Expected objects at {url}, got none; correct the URL")
        there.download_to(folder)


@contextmanager
def local_copy(folder: str) -> Iterator[Path]:
    """Yield the folder, or a copy of the objects at a URL.    Raises    as `download`"""
    if not is_url(folder):
        yield Path(folder)
        return
    with TemporaryDirectory() as name:
        download(folder, Path(name) / "copy")
        yield Path(name) / "copy"


def check_free(url: str, *, mark: str) -> None:
    """Check where a folder may be uploaded to.

    mark      file of a complete folder, which nothing else may lie in
    Raises    as `open_storage`; also ConfigError: objects are there, or it lies in a complete folder
    """
    with open_storage(url) as there:
        if there.exists():
            raise ConfigError(f"Expected nothing at {url} yet, got objects; give another URL")
        for parent in there.parents:
            if _is_object(parent / mark):
                raise ConfigError(
                    f"Expected a URL outside of {parent}, which has a {mark}, got {url}; give another URL"
                )


def _is_object(path: Any) -> bool:
    from botocore.exceptions import ClientError

    try:
        path.client.client.head_object(Bucket=path.bucket, Key=path.key)
    except ClientError:  # none, or one that this user may not see
        return False
    return True
