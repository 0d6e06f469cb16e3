"""Objectives: what a network is trained to do with a batch, one module each."""
