"""The BentoML service: ``/classify``, ``/anomaly_score`` and ``/models`` over the graphs of one models folder.

BentoML brings the server, its workers, health checks, ``/metrics``, the OpenAPI document, its page and its Python
client; requests are read and answered by ``serving.endpoints``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import bentoml
from bentoml._internal.context import server_context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.api_service import ApiService
from serving.collection import CollectionError, load_collection
from serving.demo import demo_routes
from serving.document import AnomalyAnswer, AnomalyForm, ClassifyAnswer, ClassifyForm
from serving.endpoints import Endpoints
from serving.graph import GraphError
from serving.live_models import LiveModels
from serving.lock_file import LockError
from serving.logs import set_up_logs
from serving.providers import ProviderError
from serving.settings import Settings, SettingsError
from serving.supervisor import supervise


async def _models(request: Request) -> Response:
    service: Quarterturn = bentoml.get_current_service()
    return await service.endpoints.models(request)


@bentoml.service(service_class=ApiService, name="quarterturn")
@bentoml.asgi_app(Starlette(routes=[Route("/models", _models), *demo_routes()]), path="/")
class Quarterturn:
    """What is in an image, and is it like anything the models were trained on?"""

    def __init__(self) -> None:
        settings = Settings.from_environment(os.environ)
        set_up_logs(settings.log_format)
        if settings.gpu is None:
            settings = settings.model_copy(update={"gpu": max(0, (server_context.worker_index or 1) - 1)})
        self.live = LiveModels(settings)
        self.endpoints = Endpoints(settings, self.live)
        self.posts = {"/classify": self.endpoints.classify, "/anomaly_score": self.endpoints.anomaly_score}
        self._reloads: set[asyncio.Task[bool]] = set()

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check_models() -> None:
        """Load and run the models before any worker starts: a worker that fails to start would be restarted for ever.

        On the CPU, unless the settings demand a GPU. Raises BentoMLException, which says what is wrong with which file.
        """
        try:
            settings = Settings.from_environment(os.environ)
            if settings.device == "auto":
                settings = settings.model_copy(update={"device": "cpu"})
            for graph in load_collection(settings.models, settings).graphs:
                graph.warm((1,))
        except (CollectionError, GraphError, LockError, ProviderError, SettingsError) as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error
        supervise()

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def reload_on_hangup(self) -> None:
        """Reload the models when this process gets SIGHUP."""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Let the threads end."""
        self.endpoints.close()

    # serving.shortcut takes these requests before BentoML does; what is declared here are the document and the client.

    @bentoml.api(route="/classify", input_spec=ClassifyForm, output_spec=ClassifyAnswer)  # type: ignore[untyped-decorator]
    async def classify(self, images: Request, **_: object) -> Response:
        """Say what is in each image: the likeliest classes and their probabilities."""
        return await self.endpoints.classify(images)

    @bentoml.api(route="/anomaly_score", input_spec=AnomalyForm, output_spec=AnomalyAnswer)  # type: ignore[untyped-decorator]
    async def anomaly_score(self, images: Request, **_: object) -> Response:
        """Say how unlike the training data each image is: scores, p-values and a verdict at a false-alarm rate."""
        return await self.endpoints.anomaly_score(images)

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self.live.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
