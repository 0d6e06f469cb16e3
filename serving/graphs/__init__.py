"""Graphs: what each says of itself, loaded, calibrated and run; those of a folder, and those that answer now."""
