"""The kind of BentoML service this project's is: one error shape for every answer, and a document that knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import bentoml
from bentoml._internal.service.openapi.specification import OpenAPISpecification, PathItem

from serving.document import ErrorAnswer, refusal_responses
from serving.error_shape import ErrorShape

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
        """Return BentoML's ASGI app inside the layer that gives errors their shape."""
        return ErrorShape(super().to_asgi(is_main))

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
