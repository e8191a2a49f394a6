"""The twin: what one would write without an event log, FastAPI and psycopg over ordinary tables.

It answers the same fields to the same requests, verifies the same kind of token, looks at the
caller's account, keeps idempotency keys, and commits durably on the same server. It keeps no
history, notifies nobody, and has no workers.
"""
