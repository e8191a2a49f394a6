"""What if a setting had been another one: decides again, from the log, what depends on it, and
writes nothing (docs/what-if.md)."""
