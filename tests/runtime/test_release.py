"""The release number. Older processes leave the lead to a newer release, so whatever they would not
know needs a new number."""

import hashlib

from eventstore.database.release import RELEASE
from runtime.release.migrate import FOLDERS
from runtime.wiring.codec import codec

CONTENTS = {2: "c256c75d4a97a2a7"}
"""The digest of the migrations and events of each release. When this test fails, raise RELEASE
(unless it is not out yet) and note the digest for it. A new reaction to an existing event requires
a new release as well."""


def test_what_an_older_release_does_not_know_makes_a_newer_one() -> None:
    migrations = [
        f"{component}/{path.name}"
        for component, folder in FOLDERS
        for path in sorted(folder.glob("*.sql"))
    ]
    digest = hashlib.sha256("\n".join([*migrations, *sorted(codec().kinds)]).encode()).hexdigest()[
        :16
    ]
    assert CONTENTS[RELEASE] == digest, f"release {RELEASE} has now {digest}: see CONTENTS"
