"""The API beside its plain twin under wrk: `python -m benchmarks --only http`."""
