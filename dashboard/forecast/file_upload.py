"""Files that a visitor drops: on the disk only in a folder of their own, which goes with the visitor."""

import logging
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import panel as pn
import param

CHUNK_BYTES = 4_000_000
MOST_LETTERS = 100  # of a file's name on the disk
GONE, COMING, THERE, FAILED = "", "coming", "there", "failed"

log = logging.getLogger(__name__)


def describe_failure(error: OSError) -> str:
    """Log why a file cannot be kept, and return a sentence for its visitor."""
    log.error("An uploaded file cannot be kept: %s", error)
    return f"Expected a disk of the dashboard that takes the file, got: {error.strerror}; tell who runs the dashboard."


class FileUpload(pn.widgets.FileDropper):
    """One file, written chunk by chunk as it comes; `failure` says why it has FAILED."""

    state = param.String(default=GONE, doc="GONE, COMING, THERE or FAILED.")
    percent = param.Integer(default=0)

    _rename = {"state": None, "percent": None}  # noqa: RUF012

    def __init__(self, folder: Path, max_bytes: int, **params: Any) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._within, self._max_bytes, self._bytes, self.file_name, self.failure = folder, max_bytes, 0, "", ""
        super().__init__(chunk_size=CHUNK_BYTES, multiple=False, **params)  # type: ignore[no-untyped-call]

    @property
    def path(self) -> Path:
        """Named like the visitor's file, since readers look for another symbol there, in letters safe on any disk."""
        assert self._folder
        letters = re.sub(r"[^A-Za-z0-9.-]", "_", self.file_name)[-MOST_LETTERS:]
        return Path(self._folder.name) / f"bars_{letters}"

    def clean(self) -> None:
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    def _server_event(self, doc: Any, event: Any) -> None:
        """Handle chunks in the order of arrival: Panel's threads would mix them up."""
        self._process_bokeh_event(doc, event)

    def _process_event(self, event: Any) -> None:
        if event.event_name == "delete_event":
            self.clean()
            self.state = GONE
            return
        try:
            self._take(event.data)
        except OSError as error:
            self._fail(describe_failure(error))

    def _fail(self, failure: str) -> None:
        self.clean()
        self.failure, self.state = failure, FAILED

    def _take(self, data: Any) -> None:
        """Write one chunk.    Raises    OSError"""
        if data["chunk"] == 1:
            self._bytes, self.file_name = 0, data["name"]
            self.param.update(state=COMING, percent=0)  # first: a failure after a failure is shown, too
            self.clean()
            self._folder = TemporaryDirectory(dir=self._within)
        if self.state != COMING:  # refused already
            return
        self._bytes += len(data["data"])
        if self._bytes > self._max_bytes:
            self._fail(f"The file is larger than {self._max_bytes // 1_000_000} MB; send the latest part of it.")
            return
        with self.path.open("ab") as file:
            file.write(data["data"])
        self.percent = int(100 * data["chunk"] / data["total_chunks"])
        if data["chunk"] == data["total_chunks"]:
            self.state = THERE
