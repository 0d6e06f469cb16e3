"""Data: image sets read from a data root, splits, augmentation, feeds, and out-of-distribution sets."""
