"""Files of the documentation's pages, kept in memory: a client that reads slowly holds no thread and no file."""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

CACHED = {"Cache-Control": "public, max-age=3600"}


class Assets:
    """ASGI application: the files of `folder`, by name."""

    def __init__(self, folder: Path) -> None:
        self._answers = {
            path.name: Response(path.read_bytes(), media_type=mimetypes.guess_type(path)[0], headers=CACHED)
            for path in folder.iterdir()
            if path.is_file()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises    HTTPException: no such file, or another method than GET"""
        if scope["method"] != "GET":
            raise HTTPException(405, headers={"Allow": "GET"})
        answer = self._answers.get(scope["path"].rpartition("/")[2])
        if answer is None:
            raise HTTPException(404)
        await answer(scope, receive, send)


def keep_in_memory(app: FastAPI) -> None:
    """Answer from memory what `app` would read from a folder of static files."""
    for mount in app.routes:
        if isinstance(mount, Mount) and isinstance(mount.app, StaticFiles) and mount.app.directory:
            mount.app = Assets(Path(mount.app.directory))
