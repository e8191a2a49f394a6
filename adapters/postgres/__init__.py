"""Our database: the embedded server, its programs, and the tables beside the log's."""

from pathlib import Path

from eventstore import consumers
from eventstore.database import migrations

FOLDERS = [
    ("eventstore", migrations.SQL),
    ("adapters", Path(__file__).parent / "sql"),
    ("projections", Path(consumers.__file__).parent / "sql"),
]
"""The components of the program with tables in its database, and the folders of their
migrations."""
