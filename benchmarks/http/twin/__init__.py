"""The twin: the same API as one would write it without an event log, by FastAPI and psycopg over
ordinary tables.

It answers the same fields to the same requests, verifies the same kind of token, checks the
caller's account, keeps idempotency keys, and commits durably on the same server. It keeps no
history, sends no notifications, and has no workers.
"""
