"""The same work in FastAPI: a handler in the thread pool, run by ``uvicorn --workers N`` with uvloop and httptools.

Tuned as a careful user would: no access log, as many handler threads as pay, and a JSONResponse made by the handler, so
that FastAPI does not walk through the answer once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI, UploadFile
from fastapi.responses import JSONResponse

from benchmarks.service.contestants.environment import Plan


def build_app(plan: Plan) -> FastAPI:
    """Return the app: POST / with a file in the field ``images``, and GET /readyz."""
    work = plan.work()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = plan.handler_threads
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    def answer(images: UploadFile) -> JSONResponse:
        return JSONResponse(work.answer_file(images.file.read()))

    @app.get("/readyz")
    async def ready() -> str:
        return "ready"

    return app


def app_of_environment() -> FastAPI:
    """Return the app of the plan in the environment: what uvicorn is told to call."""
    return build_app(Plan.from_environment())
