"""A witness: somebody else who holds the log's signed checkpoints."""
