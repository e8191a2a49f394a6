"""What cannot be proved, as an answer to a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from domain.errors import Conflict, NotFound
from eventstore.proofs.heads import LogChanged, NoCheckpoint
from eventstore.proofs.proving import NoSuchPosition, NotSignedYet
from eventstore.proofs.tree import TreeDamaged


@contextmanager
def proving() -> Iterator[None]:
    """Wrap what makes a proof. Raises NotFound("position_not_found", "checkpoint_not_found"),
    Conflict("not_signed_yet", "log_changed")."""
    try:
        yield
    except NoSuchPosition as error:
        raise NotFound("position_not_found", str(error)) from error
    except NoCheckpoint as error:
        raise NotFound("checkpoint_not_found", str(error)) from error
    except NotSignedYet as error:
        raise Conflict("not_signed_yet", str(error)) from error
    except (LogChanged, TreeDamaged) as error:
        raise Conflict("log_changed", str(error)) from error
