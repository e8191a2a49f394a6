"""Whether reactors append to no other aggregates than they declare."""

from runtime.wiring.core import Core
from runtime.wiring.work import Queues, reactors_of


async def must_write_as_declared(core: Core, queues: Queues) -> None:
    """By what the log has of them: queries wait for a reactor by what it declares."""
    declared = {
        f"reactor:{reactor.name}": {aggregate.kind for aggregate in reactor.writes}
        for reactor in reactors_of(core, queues)
    }
    kinds, position, undeclared = core.log.codec.kinds, 0, set[tuple[str, str]]()
    while page := await core.log.read_raw(position):
        for env, _ in page:
            if env.actor in declared and kinds[env.name] not in declared[env.actor]:
                undeclared.add((env.actor, kinds[env.name]))
        position = page[-1][0].position
    assert not undeclared
