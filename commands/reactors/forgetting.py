"""Destroys the key of a person who was forgotten."""

from commands.ports.secrets import PersonKeys
from commands.reactors.reactor import Reactor
from domain.identity import UserForgotten
from eventstore.log import Envelope


def forgetting(keys: PersonKeys) -> Reactor:
    """Destroys the key of a forgotten person, should the command have died before it could."""

    async def forgotten(_event: UserForgotten, env: Envelope) -> None:
        await keys.destroy(env.stream_id)

    return Reactor("forgetting", {UserForgotten: forgotten})
