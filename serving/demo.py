"""The page of ``/demo``: static files beside this module, served from memory, with headers that let it load no others.

It calls the API of the server it comes from, as any client would; what it needs is in ``demo_page/``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE_FOLDER = Path(__file__).parent / "demo_page"
PAGE = "index.html"

# The platform's own table of types differs from machine to machine.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, no inline script or style, and no string may become markup or code.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    # Kept by the browser, and asked after each time: files have no version in their names.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def demo_routes() -> list[Route]:
    """Return the routes of the page at ``/demo`` and of its files at ``/demo/NAME``, all read into memory here.

    A name that is no file of the page is answered 404. A browser that has the current file is answered 304.
    """
    files = {
        path.relative_to(PAGE_FOLDER).as_posix(): _file(path)
        for path in PAGE_FOLDER.rglob("*")
        if path.suffix in _TYPES
    }
    return [
        Route("/demo", _serve({"": files[PAGE]})),
        Route("/demo/{name:path}", _serve(files)),
    ]


def _file(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return the bytes of a file and the headers it is served with."""
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return content, {**_HEADERS, "Content-Type": _TYPES[path.suffix], "ETag": tag}


def _serve(files: dict[str, tuple[bytes, dict[str, str]]]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if (found := files.get(request.path_params.get("name", ""))) is None:
            raise HTTPException(404)
        content, headers = found
        known = request.headers.get("if-none-match", "")
        if headers["ETag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return serve
