"""The kind of BentoML service this project's is: one error shape for every answer, and a document that knows of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs
import bentoml
from bentoml._internal.service.openapi.specification import OpenAPISpecification, PathItem
from starlette.middleware.cors import CORSMiddleware

from serving.api_keys import ApiKey
from serving.document import ErrorAnswer, refusal_responses
from serving.error_shape import ErrorShape
from serving.request_log import RequestLog
from serving.settings import Settings
from serving.shortcut import Shortcut

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DESCRIPTION = """What is in an image, and is it like anything the models were trained on?

Every refusal has the form `{"error": {"code", "message", "image"?, "filename"?}}`. A higher score is more anomalous; a
p-value says what share of unseen normal images scores at least as high.
"""
_REF = "#/components/schemas/{model}"


class ApiService(bentoml.Service[Any]):  # type: ignore[misc]
    """A bentoml.Service whose refusals, the framework's own included, all have the shape of ``serving.errors``."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return BentoML's ASGI app inside this project's layers; the outermost: log, CORS, errors, key, shortcut."""
        settings = Settings.from_environment(os.environ)
        app: ASGIApp = Shortcut(super().to_asgi(is_main), lambda: bentoml.get_current_service().posts)
        if settings.api_key is not None:
            app = ApiKey(app, settings.api_key)
        app = ErrorShape(app)
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["X-API-Key", "Authorization", "X-Request-ID"],
                expose_headers=["X-Request-ID", "Retry-After"],
            )
        return RequestLog(app, access_log=settings.access_log)

    @property
    def openapi_spec(self) -> OpenAPISpecification:
        """Return BentoML's OpenAPI document with the refusals of this API, and with GET /models."""
        spec: Any = super().openapi_spec
        schema = ErrorAnswer.model_json_schema(ref_template=_REF)
        schemas = spec.components["schemas"]
        schemas |= schema.pop("$defs") | {"ErrorAnswer": schema}
        for method in self.apis.values():
            post = spec.paths[method.route].post
            post["responses"] = {200: post["responses"][200], **refusal_responses()}
        spec.paths["/models"] = PathItem(
            get={
                "summary": "The models that are loaded, which of them run by default, and what each manifest says.",
                "operationId": f"{self.name}__models",
                "responses": {200: {"description": "default, and models", "content": {"application/json": {}}}},
            }
        )
        info = attrs.evolve(spec.info, description=DESCRIPTION, contact=None)
        result: OpenAPISpecification = attrs.evolve(spec, info=info)
        return result
