"""The database's advisory locks. The SQL functions name them by number."""

END_OF_LOG = (4910, 1)
"""At which appends queue (sql/functions/append_v4.sql)."""

MIGRATION = (4910, 2)
"""Held by the process that migrates the database."""

LEAD = 4911
"""The first number of the lock of whoever leads something. The second is the hash of its name."""

MASTER_KEY = (4912, 1)
"""Held by whoever makes a master key the current one."""

UNDER_WAY = 4913
"""The first number of the lock of work that is under way. The second is the hash of its id."""
