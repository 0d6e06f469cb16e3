"""The BentoML service: ``/classify``, ``/anomaly_score`` and ``/models`` over the graphs of one models folder.

BentoML brings the server, its workers, health checks, metrics, the OpenAPI document, its page and its Python client;
requests are read and answered here. The event loop only reads bodies and writes answers: images are decoded and graphs
run in threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import bentoml
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.answers import alpha_warnings, anomaly_result, classify_results, public_manifest, score_parts
from serving.api_service import ApiService
from serving.collection import CollectionError, load_collection
from serving.document import AnomalyAnswer, AnomalyForm, ClassifyAnswer, ClassifyForm
from serving.error_shape import error_response
from serving.errors import ApiError
from serving.graph import Graph, GraphError
from serving.inference import Fitted, fit_upload, run_graph
from serving.providers import ProviderError, available_cores
from serving.requests import ANOMALY_FIELDS, CLASSIFY_FIELDS, OnError, anomaly_request, classify_request
from serving.settings import Settings, SettingsError
from serving.uploads import Form, Upload, UploadLimits, read_form

REQUEST_SECONDS = 60.0
RETRY_AFTER_SECONDS = 1

logger = logging.getLogger(__name__)


async def _models(_: Request) -> Response:
    service: Quarterturn = bentoml.get_current_service()
    default = service.collection.default
    return JSONResponse(
        {
            "default": {
                "classifier": default.classifier.name if default.classifier else None,
                "one_class": [graph.name for graph in default.one_class],
            },
            "models": [public_manifest(graph) for graph in service.collection.graphs],
        }
    )


@bentoml.service(
    service_class=ApiService,
    name="quarterturn",
    traffic={"timeout": REQUEST_SECONDS},
    metrics={"duration": {"buckets": [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]}},
)
@bentoml.asgi_app(Starlette(routes=[Route("/models", _models)]), path="/")
class Quarterturn:
    """What is in an image, and is it like anything the models were trained on?"""

    def __init__(self) -> None:
        logging.getLogger("serving").setLevel(logging.INFO)  # BentoML's handlers show warnings only, unless told so
        self.settings = Settings.from_environment(os.environ)
        self.collection = load_collection(self.settings.models, self.settings)
        self.collection.warm()
        for warning in alpha_warnings(self.collection.default.graphs, self.settings.alpha):
            logger.warning("%s", warning)
        cores = available_cores()
        self._limits = UploadLimits(
            self.settings.max_request_bytes, self.settings.max_image_bytes, self.settings.max_images
        )
        self._decoding = anyio.CapacityLimiter(cores)
        self._running = anyio.CapacityLimiter(max(1, cores // (self.settings.threads or cores)))
        self._in_flight = 0

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
            load_collection(settings.models, settings).warm()
        except (CollectionError, GraphError, ProviderError, SettingsError) as error:
            raise bentoml.exceptions.BentoMLException(str(error)) from error

    @bentoml.api(route="/classify", input_spec=ClassifyForm, output_spec=ClassifyAnswer)  # type: ignore[untyped-decorator]
    async def classify(self, images: Request, **_: object) -> Response:
        """Say what is in each image: the likeliest classes and their probabilities."""
        return await self._answer(images, CLASSIFY_FIELDS, self._classify)

    @bentoml.api(route="/anomaly_score", input_spec=AnomalyForm, output_spec=AnomalyAnswer)  # type: ignore[untyped-decorator]
    async def anomaly_score(self, images: Request, **_: object) -> Response:
        """Say how unlike the training data each image is: scores, p-values and a verdict at a false-alarm rate."""
        return await self._answer(images, ANOMALY_FIELDS, self._anomaly_score)

    async def _answer(
        self, request: Request, fields: Sequence[str], work: Callable[[Form], Awaitable[dict[str, Any]]]
    ) -> Response:
        if self._in_flight >= self.settings.max_in_flight:
            return error_response(
                ApiError(
                    503, "busy", "the server is full; try again", headers={"Retry-After": str(RETRY_AFTER_SECONDS)}
                )
            )
        self._in_flight += 1
        try:
            return JSONResponse(await work(await self._read(request, fields)))
        except ApiError as error:
            return error_response(error)
        except ClientDisconnect:
            return error_response(ApiError(400, "bad_multipart", "the connection was closed before the body ended"))
        except Exception:
            logger.exception("a request failed")
            return error_response(ApiError(500, "internal_error", "a fault of the server; its log says more"))
        finally:
            self._in_flight -= 1

    async def _read(self, request: Request, fields: Sequence[str]) -> Form:
        if request.query_params:
            raise ApiError(400, "bad_field", "fields are sent in the form, not in the address")
        headers = request.headers
        return await read_form(
            headers.get("content-type"), headers.get("content-length"), request.stream(), self._limits, fields
        )

    async def _classify(self, form: Form) -> dict[str, Any]:
        asked = classify_request(form)
        graph = self.collection.classifier(asked.model)
        fitted = await self._fit(asked.images, [graph], asked.on_error)

        def run(images: Sequence[Fitted]) -> list[dict[str, Any]]:
            return classify_results(graph, run_graph(graph, images), asked.top_k)

        results = await self._results(fitted, run)
        return {"model": {"name": graph.name, "digest": graph.digest}, "results": results}

    async def _anomaly_score(self, form: Form) -> dict[str, Any]:
        asked = anomaly_request(form, self.settings.alpha)
        chosen = self.collection.select(asked.models)
        fitted = await self._fit(asked.images, chosen.graphs, asked.on_error)

        def run(images: Sequence[Fitted]) -> list[dict[str, Any]]:
            parts = [
                score_parts(graph, run_graph(graph, images), asked.alpha, views=asked.views) for graph in chosen.graphs
            ]
            split = 1 if chosen.classifier else 0
            return [
                anomaly_result(image[0] if split else None, image[split:], asked.alpha)
                for image in zip(*parts, strict=True)
            ]

        answer = {"alpha": asked.alpha, "results": await self._results(fitted, run)}
        warnings = alpha_warnings(chosen.graphs, asked.alpha)
        return {**answer, "warnings": warnings} if warnings else answer

    async def _fit(
        self, uploads: Sequence[Upload], graphs: Sequence[Graph], on_error: OnError
    ) -> list[Fitted | ApiError]:
        """Decode and fit every image; with ``fail``, raise the error of the first bad one."""
        fittings = [graph.manifest.fitting for graph in graphs]
        fitted: dict[int, Fitted | ApiError] = {}

        async def fit(index: int, upload: Upload) -> None:
            pixels = self.settings.max_image_pixels
            fitted[index] = await run_sync(fit_upload, upload, index, fittings, pixels, limiter=self._decoding)

        async with anyio.create_task_group() as group:
            for index, upload in enumerate(uploads):
                group.start_soon(fit, index, upload)
        outcomes = [fitted[index] for index in range(len(uploads))]
        if on_error == "fail":
            for outcome in outcomes:
                if isinstance(outcome, ApiError):
                    raise outcome
        return outcomes

    async def _results(
        self, fitted: Sequence[Fitted | ApiError], run: Callable[[Sequence[Fitted]], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Run the good images together and put each result, or each bad image's error, in its place."""
        good = [outcome for outcome in fitted if not isinstance(outcome, ApiError)]
        results = iter(await run_sync(run, good, limiter=self._running) if good else [])
        return [outcome.body() if isinstance(outcome, ApiError) else next(results) for outcome in fitted]
