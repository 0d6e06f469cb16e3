"""Processes: the main process of a server and its workers; the models they begin with, and signals."""
