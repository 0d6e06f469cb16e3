"""The service against other ways to serve the same work: ``make bench``. How it is measured: benchmarks/README.md."""
