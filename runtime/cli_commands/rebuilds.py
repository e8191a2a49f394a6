"""What the commands about rebuilds share: several at a time, and their errors in words."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from runtime.cli_commands.failures import Failure
from runtime.output import console
from runtime.output.console import Code

if TYPE_CHECKING:
    import psycopg

    from projections.engine.rebuild import Rebuilt
    from projections.engine.runner import Registered

T = TypeVar("T")


def rebuild_together(
    models: "Sequence[Registered]",
    count: int,
    connecting: "Callable[[], psycopg.Connection]",
    *,
    replace: bool,
) -> "tuple[list[Rebuilt], list[tuple[str, Failure]]]":
    """Rebuild read models in `count` processes, each of which reads the log once for all of its
    own; a failure does not stop the others."""
    from projections.engine import together
    from projections.engine.one_pass import grouped
    from projections.engine.side_by_side import side_by_side
    from runtime.wiring.codec import codec

    events = codec()
    done: list[Rebuilt] = []
    failures: list[tuple[str, Failure]] = []
    if not models:
        return done, failures
    with connecting() as conn:
        groups = grouped(conn, events, models, count)

    def work(
        group: "Sequence[Registered]", report: Callable[[int, int], None]
    ) -> "Iterator[tuple[Registered, Rebuilt | Exception]]":
        with connecting() as conn:
            yield from together.rebuild_together(conn, events, group, report, replace=replace)

    with console.progress() as progress:
        for model, said in side_by_side(groups, work, count, partial(progress, "rebuild")):
            name = model.projection.name
            try:
                rebuilt = or_failure(partial(_result, said))
            except Failure as failure:
                failures.append((name, failure))
            else:
                done.append(rebuilt)
                progress(f"rebuild {name}", rebuilt.position, rebuilt.position)
    return done, failures


def _result(said: T | Exception) -> T:
    if isinstance(said, Exception):
        raise said
    return said


def or_failure(work: Callable[[], T]) -> T:
    """Turn the errors of a rebuild into messages."""
    import psycopg

    from eventstore.consumers.checkpoints import CheckpointMoved
    from projections.engine import rebuild as rebuilding

    try:
        return work()
    except (rebuilding.NeverRan, rebuilding.CatchingUp) as error:
        raise Failure(str(error), Code.UNREACHABLE) from error
    except rebuilding.Unequal as error:
        raise Failure(f"{error}; nothing was switched") from error
    except (rebuilding.Busy, rebuilding.NothingEarlier, rebuilding.ProcessDied) as error:
        raise Failure(str(error)) from error
    except CheckpointMoved as error:
        raise Failure(
            f"{error}: another process moved it, or the log went back. `ludoteca projections list`"
            " shows which; the projector folds anew by itself what followed another history"
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise Failure(
            "the projector held its checkpoint for too long: nothing was switched, try again"
        ) from error
