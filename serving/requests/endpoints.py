"""Endpoints: a request to ``/classify`` or ``/anomaly_score`` from its unread body to its answer.

Read within limits, checked, decoded, run with others' images, answered; every refusal is an ApiError. Nothing here
knows of BentoML.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.errors import ApiError
from serving.graphs.alarms import alpha_warnings
from serving.graphs.graph import Graph
from serving.graphs.inference import work
from serving.graphs.live_models import LiveModels, LoadedModels
from serving.graphs.run_queue import Outputs
from serving.graphs.shared_runs import SharedRuns
from serving.images.fitting import Fitted
from serving.metrics import metrics
from serving.requests.answers import anomaly_result, classify_results, public_manifest, score_parts
from serving.requests.decoding import Decoder
from serving.requests.error_answer import error_response
from serving.requests.fields import ANOMALY_FIELDS, CLASSIFY_FIELDS, OnError, anomaly_request, classify_request
from serving.requests.given_up import CLIENT_GONE_STATUS, ClientGoneError, Patience
from serving.requests.json_answer import JsonAnswer
from serving.requests.room import Body, Room
from serving.requests.uploads import Form, Upload, UploadLimits, read_form
from serving.settings import Settings

logger = logging.getLogger(__name__)

Result = dict[str, Any]


class Endpoints:
    """Answers requests with the live models, within the limits of the settings."""

    def __init__(self, settings: Settings, models: LiveModels, room: Room, decoder: Decoder) -> None:
        self._settings = settings
        self._models = models
        self._limits = UploadLimits(settings.max_request_bytes, settings.max_image_bytes, settings.max_images)
        self._decoder = decoder
        self._patience = Patience(settings.max_request_seconds)
        self._room = room

    async def classify(self, request: Request) -> Response:
        """Answer ``POST /classify``."""
        return await self._answer(request, CLASSIFY_FIELDS, self._classify)

    async def anomaly_score(self, request: Request) -> Response:
        """Answer ``POST /anomaly_score``."""
        return await self._answer(request, ANOMALY_FIELDS, self._anomaly_score)

    async def models(self, _: Request) -> Response:
        """Answer ``GET /models``: what is loaded, and which of it runs by default."""
        collection = self._models.current.collection
        default = collection.default
        return JsonAnswer(
            {
                "default": {
                    "classifier": default.classifier.name if default.classifier else None,
                    "one_class": [graph.name for graph in default.one_class],
                },
                "models": [public_manifest(graph) for graph in collection.graphs],
            }
        )

    def sample(self) -> None:
        """Set the gauges: requests and bytes held now, and images that wait."""
        metrics().in_flight.set(self._room.requests)
        metrics().held_bytes.set(self._room.held_bytes)
        for name, runs in self._models.current.runs.items():
            metrics().queued_images.labels(name).set(runs.waiting)

    def close(self) -> None:
        """Let the threads end; what they do finishes first."""
        self._decoder.close()
        self._models.close()

    async def _answer(
        self, request: Request, fields: Sequence[str], work: Callable[[Form, Body], Awaitable[Result]]
    ) -> Response:
        body = Body(self._room, request.stream())
        try:
            with self._patience.waiting(request) as waiting:
                form = await self._read(request, body, fields)
                waiting.is_read = True
                with self._room.at_work():
                    return JsonAnswer(await work(form, body))
        except ApiError as error:
            return error_response(error)
        except TimeoutError:
            return error_response(_timeout(body.is_complete, self._settings.max_request_seconds))
        except ClientGoneError:
            return Response(status_code=CLIENT_GONE_STATUS)
        except ClientDisconnect:
            return error_response(ApiError(400, "bad_multipart", "the connection was closed before the body ended"))
        except Exception:
            logger.exception("a request failed")
            return error_response(ApiError(500, "internal_error", "a fault of the server; its log says more"))
        finally:
            body.release()

    async def _read(self, request: Request, body: Body, fields: Sequence[str]) -> Form:
        if request.scope["query_string"]:
            raise ApiError(400, "bad_field", "fields are sent in the form, not in the address")
        self._room.admit()
        headers = request.headers
        return await read_form(
            headers.get("content-type"), headers.get("content-length"), body.chunks(), self._limits, fields
        )

    async def _classify(self, form: Form, body: Body) -> Result:
        asked = classify_request(form)
        live = self._models.current
        graph = live.collection.classifier(asked.model)
        fitted = await self._fit(body, asked.images, [graph], asked.on_error)
        results: list[Result] = []
        if good := _good(fitted):
            outputs = await _run(live.runs[graph.name], good)
            results = classify_results(graph, outputs, asked.top_k)
        return {"model": {"name": graph.name, "digest": graph.digest}, "results": _with_errors(fitted, results)}

    async def _anomaly_score(self, form: Form, body: Body) -> Result:
        asked = anomaly_request(form, self._settings.alpha)
        live = self._models.current
        chosen = live.collection.select(asked.models)
        fitted = await self._fit(body, asked.images, chosen.graphs, asked.on_error)
        results: list[Result] = []
        if good := _good(fitted):
            outputs = await _run_all(chosen.graphs, live, good)
            parts = [score_parts(graph, outputs[graph.name], asked.alpha, views=asked.views) for graph in chosen.graphs]
            for graph, results_of_graph in zip(chosen.graphs, parts, strict=True):
                metrics().observe_scores(graph.name, results_of_graph)
            split = 1 if chosen.classifier else 0
            results = [
                anomaly_result(image[0] if split else None, image[split:], asked.alpha)
                for image in zip(*parts, strict=True)
            ]
            metrics().observe_verdicts(results)
        answer = {"alpha": asked.alpha, "results": _with_errors(fitted, results)}
        warnings = alpha_warnings(chosen.graphs, asked.alpha)
        return {**answer, "warnings": warnings} if warnings else answer

    async def _fit(
        self, body: Body, uploads: Sequence[Upload], graphs: Sequence[Graph], on_error: OnError
    ) -> list[Fitted | ApiError]:
        """Decode and fit every image, if there is room; with ``fail``, raise the error of the first bad one."""
        fittings = {graph.manifest.fitting for graph in graphs}
        body.hold_images(len(uploads) * sum([fitting.image_bytes for fitting in fittings]))
        outcomes = await self._decoder.fit(uploads, fittings)
        refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
        metrics().images_decoded.inc(len(outcomes) - len(refused))
        for error in refused:
            metrics().images_refused.labels(error.code).inc()
        if refused and on_error == "fail":
            raise refused[0]
        return outcomes


async def _run(runs: SharedRuns, images: Sequence[Fitted]) -> Outputs:
    fitting = runs.graph.manifest.fitting
    await asyncio.sleep(0)  # those that were decoded together are offered together: serving.requests.decoding
    return await runs.run([image[fitting] for image in images])


async def _run_all(graphs: Sequence[Graph], live: LoadedModels, images: Sequence[Fitted]) -> dict[str, Outputs]:
    """Run every graph, the one of most work first, so that on an idle server it gets the most cores."""
    names = [graph.name for graph in sorted(graphs, key=work, reverse=True)]
    if len(names) == 1:
        return {names[0]: await _run(live.runs[names[0]], images)}
    return dict(zip(names, await asyncio.gather(*(_run(live.runs[name], images) for name in names)), strict=True))


def _good(fitted: Sequence[Fitted | ApiError]) -> list[Fitted]:
    return [outcome for outcome in fitted if not isinstance(outcome, ApiError)]


def _with_errors(fitted: Sequence[Fitted | ApiError], results: Sequence[Result]) -> list[Result]:
    """Put each good image's result, or each bad image's error, in its place."""
    of_good = iter(results)
    return [outcome.body() if isinstance(outcome, ApiError) else next(of_good) for outcome in fitted]


def _timeout(body_is_complete: bool, seconds: float) -> ApiError:
    if body_is_complete:
        return ApiError(504, "timeout", f"the request took longer than {seconds:g} seconds")
    return ApiError(408, "upload_timeout", f"the body did not arrive within {seconds:g} seconds")
