"""Rebuilds several read models in one pass over the log.

They share only the pass. Each has a storage, a comparison and a switch of its own, as
`projections.engine.rebuild` has them for one, and fails alone.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import psycopg

from eventstore.codec import Codec
from eventstore.database.postgres import AWAY
from projections.engine.advancing import Registered
from projections.engine.dropping import exclusively
from projections.engine.one_pass import fold_together
from projections.engine.rebuild import Begun, Rebuilt, begin, looking_up
from projections.engine.replaying import Progress


def rebuild_together(
    conn: psycopg.Connection,
    codec: Codec,
    models: Iterable[Registered],
    progress: Progress,
    *,
    replace: bool,
) -> Iterator[tuple[Registered, Rebuilt | Exception]]:
    """Rebuild read models in one pass. Yields each when it is done, with what `rebuild` would
    return or raise. Raises what leaves the connection unusable."""
    begun: list[Begun] = []
    with ExitStack() as stack:
        stack.enter_context(looking_up(conn))
        for model in models:
            try:
                stack.enter_context(exclusively(conn, model.projection.name))
                begun.append(begin(conn, codec, model))
            except AWAY:
                raise
            except Exception as error:
                yield model, error
            else:
                stack.enter_context(begun[-1].dropped_on_failure(conn))
        replays = {each.replay: each.upto for each in begun}
        failed = fold_together(conn, codec, replays, progress)
        end = max((each.upto for each in begun), default=0)
        for each in begun:
            progress(end, end)
            try:
                with each.dropped_on_failure(conn):
                    if each.replay in failed:
                        raise failed[each.replay]
                    result = each.finish(conn, replace=replace)
            except Exception as error:
                yield each.registered, error
            else:
                yield each.registered, result
