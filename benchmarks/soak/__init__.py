"""A server under good, bad, huge, slow and aborted requests at once: ``make soak`` (benchmarks/README.md)."""
