"""What stops a fold."""

from uuid import UUID

from api.fields import Answer


class StopView(Answer):
    """An event that cannot be applied: neither it nor what followed in its stream counts."""

    stream_id: UUID
    position: int
    name: str
    error: str
