"""Common corruptions (Section 3.2): CIFAR-10-C as it is published, or made here from any 32-pixel test images."""
