"""Attacks within an L-infinity ball, and what they do to a network (Section 3.1)."""
