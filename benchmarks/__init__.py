"""Benchmarks: what the log and the projections do, beside what others do on the same server in the
same minute."""
