"""Destroying the keys of forgotten persons."""

from commands.ports.secrets import PersonKeys
from commands.reactors.reactor import Reactor
from domain.identity import UserForgotten
from eventstore.log import Envelope


def forgetting(keys: PersonKeys) -> Reactor:
    """Destroys the key of a forgotten person, in case the command died before it did."""

    async def forgotten(_event: UserForgotten, env: Envelope) -> None:
        await keys.destroy(env.stream_id)

    return Reactor("forgetting", {UserForgotten: forgotten})
