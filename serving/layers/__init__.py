"""Layers: what lies round the endpoints in a worker, ASGI layer by ASGI layer, and their order round BentoML's app."""
