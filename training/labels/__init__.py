"""Training on corrupted labels (Section 3.3): the corruption, the trusted images, the losses that correct for it."""
