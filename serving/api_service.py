"""The kind of BentoML service this project's is: one error shape for every answer, and a document that knows of it."""

from __future__ import annotations

import os
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import attrs
import bentoml
from bentoml._internal.service.openapi.specification import OpenAPISpecification, PathItem
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import HTTP_PROTOCOLS

from serving.layers.api_keys import ApiKey
from serving.layers.error_shape import ErrorShape
from serving.layers.http_only import HttpOnly
from serving.layers.request_log import RequestLog
from serving.layers.shortcut import Shortcut
from serving.layers.unread_bodies import UnreadBodies
from serving.logs import set_up_logs
from serving.openapi import document
from serving.processes.server_folder import server_folder
from serving.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class ApiService(bentoml.Service[Any]):  # type: ignore[misc]
    """A bentoml.Service whose refusals, the framework's own included, all have the shape of ``serving.errors``."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return BentoML's ASGI app inside this project's layers.

        From the outermost: HTTP only, unread bodies, log, CORS, errors, key, shortcut. The web server that BentoML
        makes next, in this process, gets this project's connections, where it has httptools.
        """
        settings = Settings.from_environment(os.environ)
        if find_spec("httptools") is not None:
            from serving.layers.connections import BoundedConnection

            # A name is what uvicorn looks for there; what is none, it takes as it is.
            connection: Any = partial(BoundedConnection, keep_alive_seconds=settings.keep_alive_seconds)
            HTTP_PROTOCOLS["auto"] = connection
        set_up_logs(settings.log_format)
        if (server := server_folder(os.environ)) is not None:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(server.metrics)  # before anything counts
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
        return HttpOnly(UnreadBodies(RequestLog(app, access_log=settings.access_log)))

    @property
    def openapi_spec(self) -> OpenAPISpecification:
        """Return the OpenAPI document of this API, in the frame that BentoML serves and stores."""
        spec: Any = super().openapi_spec
        result: OpenAPISpecification = attrs.evolve(
            spec,
            openapi=document.VERSION,
            info=attrs.evolve(spec.info, version=document.API_VERSION, description=document.DESCRIPTION, contact=None),
            components=document.components(),
            paths={path: PathItem(**operations) for path, operations in document.paths(self.name).items()},
        )
        return result
