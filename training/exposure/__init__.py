"""Outlier Exposure: images of other things shown in training, on which the classifier learns to be unsure."""
