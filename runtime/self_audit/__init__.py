"""The shop's audit of itself: invariants that always hold, looked at again and again
(docs/self-audit.md)."""
