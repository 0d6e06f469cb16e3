"""Offline half of Quarterturn: data, views, networks, objectives, recipes, trainer, evaluation and export."""
