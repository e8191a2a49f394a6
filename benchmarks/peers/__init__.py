"""Other event stores, as peers of the append benchmark: each with its default settings, except for
pools that are large enough, and each called as its documentation shows."""
