"""Styles, scripts and pictures: read once, named by their content, compressed once, cached for ever by browsers."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
    "png": "image/png",
    "wav": "audio/wav",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_PREFIX: Final = "/static/"


@dataclass(frozen=True)
class StaticFile:
    """One file and its two forms."""

    body: bytes
    kind: str

    @cached_property
    def version(self) -> str:
        """Say which content it is."""
        return hashlib.sha256(self.body).hexdigest()[:10]

    @cached_property
    def packed(self) -> bytes:
        """Return the body, gzipped (always the same bytes)."""
        return gzip.compress(self.body, 9, mtime=0)


def _walk(folder: Traversable, prefix: str) -> dict[str, StaticFile]:
    found: dict[str, StaticFile] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _walk(entry, f"{prefix}{entry.name}/")
        elif (kind := _TYPES.get(entry.name.rsplit(".", 1)[-1])) is not None:
            found[prefix + entry.name] = StaticFile(entry.read_bytes(), kind)
    return found


@cache
def static_files() -> dict[str, StaticFile]:
    """Return all files by name (``app.css``, ``vendor/htmx.min.js``)."""
    return _walk(files("sas_matcher.console").joinpath("static"), "")


def static_url(name: str) -> str:
    """Return the address of a file; another content has another one.

    Raises:
        KeyError: there is no such file.
    """
    return f"{_PREFIX}{name}?v={static_files()[name].version}"


async def serve_static(request: Request) -> Response:
    """Answer ``/static/{name}``; open to all, since these files are the same for everybody."""
    file = static_files().get(str(request.path_params["name"]))
    if file is None:
        return Response("Introuvable", 404, media_type="text/plain; charset=utf-8")
    headers = {
        "Cache-Control": _FOR_EVER if request.query_params.get("v") == file.version else "no-cache",
        "ETag": f'"{file.version}"',
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(None, 304, headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.kind)
    return Response(file.body, headers=headers, media_type=file.kind)
