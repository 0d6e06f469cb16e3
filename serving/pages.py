"""Pages for a person: ``/``, which tries the API, and ``/demo``, which shows what the models see in an image.

Static files beside this module, served from memory, with headers that let a page load nothing from elsewhere. Both call
the API of the server they come from, as any client would. What Swagger UI needs, BentoML serves at ``/static_content``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

API_FOLDER = Path(__file__).parent / "api_page"
DEMO_FOLDER = Path(__file__).parent / "demo_page"
PAGE = "index.html"

# The platform's own table of types differs from machine to machine.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, and no inline script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# No string may become markup or code.
_DEMO_POLICY = f"{_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"
# Swagger UI writes styles into its markup, and has icons in its style sheet.
_API_POLICY = _POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self'", "img-src 'self' data:"
)
_HEADERS = {
    # Kept by the browser, and asked after each time: files have no version in their names.
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """Return the routes of both pages, at ``/`` and ``/demo``, and of their files, all read into memory here.

    Those are at ``/api_page/NAME`` and ``/demo/NAME``. A name that is no file of the page is answered 404. A browser
    that has the current file is answered 304.
    """
    api, demo = _files(API_FOLDER, _API_POLICY), _files(DEMO_FOLDER, _DEMO_POLICY)
    return [
        Route("/", _serve({"": api[PAGE]})),
        Route("/api_page/{name:path}", _serve(api)),
        Route("/demo", _serve({"": demo[PAGE]})),
        Route("/demo/", RedirectResponse("../demo", 308)),
        Route("/demo/{name:path}", _serve(demo)),
    ]


_File = tuple[bytes, dict[str, str]]


def _files(folder: Path, policy: str) -> dict[str, _File]:
    """Return the files of a page by name: the bytes of each and the headers it is served with."""
    files: dict[str, _File] = {}
    for path in folder.rglob("*"):
        if path.suffix not in _TYPES:
            continue
        content = path.read_bytes()
        headers = {
            **_HEADERS,
            "Content-Security-Policy": policy,
            "Content-Type": _TYPES[path.suffix],
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }
        files[path.relative_to(folder).as_posix()] = content, headers
    return files


def _serve(files: dict[str, _File]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if (found := files.get(request.path_params.get("name", ""))) is None:
            raise HTTPException(404)
        content, headers = found
        known = request.headers.get("if-none-match", "")
        if headers["ETag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return serve
