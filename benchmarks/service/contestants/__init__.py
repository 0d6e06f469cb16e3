"""The servers that are measured beside ours, each as its own framework would have it written.

A server learns what to serve from the variables BENCHMARK_*: ``environment``.
"""
