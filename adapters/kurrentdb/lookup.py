"""Single questions to KurrentDB, for processes that do not follow it."""

import asyncio
from uuid import UUID

import grpc
from kurrentdbclient.exceptions import KurrentDBClientError, NotFoundError

from adapters.kurrentdb import wire
from adapters.kurrentdb.client import open_client


async def has_event(
    url: str, stream_id: UUID, version: int, event_id: UUID, *, seconds: float
) -> bool:
    """Whether KurrentDB has this event at this place. Raises ConnectionError when it does not
    answer."""
    try:
        async with asyncio.timeout(seconds), open_client(url) as client:
            found = await client.get_stream(
                wire.stream_name(stream_id),
                stream_position=version - 1,
                limit=1,
                timeout=seconds,
            )
    except NotFoundError:
        return False
    except (KurrentDBClientError, grpc.RpcError, TimeoutError) as error:
        raise ConnectionError(f"KurrentDB does not answer: {error!r}") from error
    return any(recorded.id == event_id for recorded in found)
