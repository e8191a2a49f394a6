"""How personal data is stored, for auditors: which master keys wrap the keys of persons, and which
forgotten persons are still on the disk."""

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Time
from api.reading import LogPosition
from api.services import ServicesOf
from queries.accounts import personal_data

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class MasterKeyView(Answer):
    """A master key that the shop has used, and how many keys and secrets it wraps. One that is not
    current and wraps nothing may be destroyed."""

    id: str
    current: bool
    since: Time
    wraps: int


class ToBeErasedView(Answer):
    """A forgotten person whose data may still be on the database's disk, and since when. The id is
    nil for keys that were stored unwrapped."""

    user_id: UUID
    since: Time


class PersonalDataView(Answer):
    """The master keys, the latest last; how many keys and secrets are stored unwrapped; and who is
    to be erased, the longest waiting first."""

    master_keys: list[MasterKeyView]
    unwrapped: int
    to_be_erased: list[ToBeErasedView]


@router.get("/personal-data", response_model=PersonalDataView)
async def get_personal_data(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Return how personal data is stored (AUDITOR, ADMIN): what `ludoteca keys show` shows. What is
    to be erased for long tells that something is in the way: `ludoteca keys erase` says what."""
    found = await personal_data.personal_data(services.log.pool)
    return answer(PersonalDataView.model_validate(found), position=head)
