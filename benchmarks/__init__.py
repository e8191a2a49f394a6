"""Benchmarks of the log and the projections, beside alternatives on the same server at the same
time."""
