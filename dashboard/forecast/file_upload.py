"""Files that a visitor drops: on the disk only in a folder of their own, which goes with the visitor."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import panel as pn
import param

CHUNK_BYTES = 4_000_000
GONE, COMING, THERE, TOO_LARGE = "", "coming", "there", "too large"


class FileUpload(pn.widgets.FileDropper):
    """One file, written chunk by chunk as it comes."""

    state = param.String(default=GONE, doc="GONE, COMING, THERE or TOO_LARGE.")
    percent = param.Integer(default=0)

    _rename = {"state": None, "percent": None}  # noqa: RUF012

    def __init__(self, folder: Path, max_bytes: int, **params: Any) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._within, self._max_bytes, self._bytes, self.file_name = folder, max_bytes, 0, ""
        super().__init__(chunk_size=CHUNK_BYTES, multiple=False, **params)  # type: ignore[no-untyped-call]

    @property
    def path(self) -> Path:
        assert self._folder
        return Path(self._folder.name) / "bars"

    def clean(self) -> None:
        if self._folder:
            self._folder.cleanup()
            self._folder = None

    def _server_event(self, doc: Any, event: Any) -> None:
        """Handle chunks in the order of arrival: Panel's threads would mix them up."""
        self._process_bokeh_event(doc, event)

    def _process_event(self, event: Any) -> None:
        data = event.data
        if event.event_name == "delete_event":
            self.clean()
            self.state = GONE
            return
        if data["chunk"] == 1:
            self.clean()
            self._folder, self._bytes, self.file_name = TemporaryDirectory(dir=self._within), 0, data["name"]
            self.param.update(state=COMING, percent=0)
        if self.state != COMING:  # refused already
            return
        self._bytes += len(data["data"])
        if self._bytes > self._max_bytes:
            self.clean()
            self.state = TOO_LARGE
            return
        with self.path.open("ab") as file:
            file.write(data["data"])
        self.percent = int(100 * data["chunk"] / data["total_chunks"])
        if data["chunk"] == data["total_chunks"]:
            self.state = THERE
