"""Layers: what lies round the endpoints in a worker, as ASGI apps; ``serving.api_service`` has their order."""
