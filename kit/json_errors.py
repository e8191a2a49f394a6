"""What reading JSON that somebody else wrote may raise."""

JSON_ERRORS = (ValueError, RecursionError)
"""What `msgspec.json.decode` raises for bytes that are not JSON of the wanted type. Its own errors
are ValueErrors, and so is UnicodeDecodeError, for a text that is not UTF-8; what is nested too
deeply is a RecursionError."""
