"""The BentoML service: ``/classify``, ``/anomaly_score`` and ``/models`` over the graphs of one models folder.

BentoML brings the server, its workers, health checks, the OpenAPI document and its Python client;
requests are read and answered by ``serving.requests.endpoints``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any

import bentoml
from bentoml._internal.context import server_context
from bentoml._internal.log import configure_server_logging
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.api_service import ApiService
from serving.graphs.live_models import LiveModels
from serving.graphs.providers import available_cores
from serving.images.image_file import ignore_metadata_warnings
from serving.logs import set_up_logs
from serving.metrics import metrics_page
from serving.openapi.forms_and_answers import AnomalyAnswer, AnomalyForm, ClassifyAnswer, ClassifyForm
from serving.pages import page_routes
from serving.processes.hangups import POSSIBLE, hold_hangups, release_hangups
from serving.processes.manager_sockets import keep_manager_private
from serving.processes.model_check import ModelCheckError, check_at_start
from serving.processes.parent import be_parent, end_with_parent
from serving.processes.server_folder import server_folder
from serving.processes.supervisor import seconds_to_end, supervise
from serving.requests.decoding import Decoder
from serving.requests.endpoints import Endpoints
from serving.requests.heap import keep_large_blocks_apart
from serving.requests.room import Room
from serving.settings import Settings, SettingsError
from serving.stray_output import catch_stray_output

# Gauges are read by Prometheus every some seconds; setting them at every request would cost more than counting it.
GAUGE_SECONDS = 1.0


async def _models(request: Request) -> Response:
    service: Quarterturn = bentoml.get_current_service()
    return await service.endpoints.models(request)


async def _metrics(_: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST  # not before its folder is set: serving.metrics

    service: Quarterturn = bentoml.get_current_service()
    page = await run_in_threadpool(metrics_page, service.live.current.collection.names)
    return Response(page, media_type=CONTENT_TYPE_LATEST)


async def _document(_: Request) -> Response:
    return Response(_document_bytes(), media_type="application/json")


@cache
def _document_bytes() -> bytes:
    """Return the OpenAPI document, made at the first call: it takes tens of milliseconds, and needs no key."""
    service: Any = Quarterturn  # by its decorator an ApiService
    return json.dumps(service.openapi_spec.asdict()).encode()


# BentoML's own metrics have a label for every path that any client ever asks for, and its log a line: ours are
# metrics.py and layers/request_log.py.
@bentoml.service(
    service_class=ApiService,
    name="quarterturn",
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(
    Starlette(
        routes=[
            Route("/models", _models),
            Route("/metrics", _metrics),
            Route("/docs.json", _document),
            *page_routes(),
        ]
    ),
    path="/",
)
class Quarterturn:
    """What is in an image, and is it like anything the models were trained on?"""

    def __init__(self) -> None:
        settings = Settings.from_environment(os.environ)
        set_up_logs(settings.log_format)
        ignore_metadata_warnings()
        keep_large_blocks_apart()
        if (server := server_folder(os.environ)) is not None:
            # The models as the main process has checked them, against the lock file too.
            settings = settings.model_copy(update={"models": server.models, "lock_file": None})
        if settings.gpu is None:
            settings = settings.model_copy(update={"gpu": max(0, (server_context.worker_index or 1) - 1)})
        room = Room(settings.max_in_flight, settings.max_held_bytes, settings.max_reading)
        decoder = Decoder(available_cores(), settings.max_image_pixels, settings.max_decoding_bytes)
        self.live = LiveModels(settings, lambda: room.requests, lambda: decoder.at_work)
        self.endpoints = Endpoints(settings, self.live, room, decoder)
        self.posts = {"/classify": self.endpoints.classify, "/anomaly_score": self.endpoints.anomaly_score}
        self._seconds_to_end = seconds_to_end(settings)
        self._tasks: set[asyncio.Task[object]] = set()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check_models() -> None:
        """Check the models before any worker starts: a worker that fails to start would be restarted for ever.

        In the main process, which from then on looks after the workers. Raises BentoMLException, which says what is
        wrong with which file or setting.
        """
        hold_hangups()
        try:
            settings = Settings.from_environment(os.environ)
            if settings.log_format == "json":
                catch_stray_output()
            server_context.service_type = server_context.service_type or "main"  # in its lines of the log
            configure_server_logging()  # type: ignore[no-untyped-call]
            set_up_logs(settings.log_format)
            check = check_at_start()
            check_at_start.cache_clear()
            keep_manager_private(check.server)
            check.finish()
        except (ModelCheckError, SettingsError, OSError) as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(check.server.metrics)
        be_parent()
        supervise(check.server, settings)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def begin(self) -> None:
        """From now on sample the gauges, end with the main process, and reload the models at SIGHUP."""
        gc.freeze()  # what is there now, stays: a full collection would hold up everything, 55 ms where it was measured
        self._keep(self._sample_gauges())
        self._keep(end_with_parent(self._seconds_to_end))
        self._keep(asyncio.to_thread(self.live.widen))
        if threading.current_thread() is threading.main_thread() and POSSIBLE:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
            release_hangups()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Let tasks and threads end."""
        for task in self._tasks:
            task.cancel()
        self.endpoints.close()

    # layers.shortcut takes these requests before BentoML does; what is declared here are the document and the client.

    @bentoml.api(route="/classify", input_spec=ClassifyForm, output_spec=ClassifyAnswer)  # type: ignore[untyped-decorator]
    async def classify(self, images: Request, **_: object) -> Response:
        """Say what is in each image: the likeliest classes and their probabilities."""
        return await self.endpoints.classify(images)

    @bentoml.api(route="/anomaly_score", input_spec=AnomalyForm, output_spec=AnomalyAnswer)  # type: ignore[untyped-decorator]
    async def anomaly_score(self, images: Request, **_: object) -> Response:
        """Say how unlike the training data each image is: scores, p-values and a verdict at a false-alarm rate."""
        return await self.endpoints.anomaly_score(images)

    def _reload(self) -> None:
        self._keep(self.live.reload())

    async def _sample_gauges(self) -> None:
        while True:
            self.endpoints.sample()
            await asyncio.sleep(GAUGE_SECONDS)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        """Run ``work`` as a task; the loop itself would not keep it from the garbage collector."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
