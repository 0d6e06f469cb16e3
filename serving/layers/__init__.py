"""Layers: what lies round the endpoints in a worker: ASGI apps, in ``serving.api_service``'s order, and connections."""
