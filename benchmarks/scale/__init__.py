"""How costs grow with the log: the same work over a history of ten thousand, a million and ten
million events."""
