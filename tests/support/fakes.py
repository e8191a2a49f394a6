"""The ports of commands, in memory."""

from datetime import datetime
from uuid import UUID

import msgspec

from commands.accounts.belongings import Belongings
from commands.ports.images import Picture
from commands.ports.payments import Intent, ProviderNotice, ProviderRefund, ProviderRefused
from commands.ports.sessions import Session
from commands.ports.signatures import CarrierSignatures, InvalidSignature
from commands.ports.webhooks import WebhookMessage
from domain.errors import Invalid
from kit.clock import Clock


class PlainHasher:
    """Stores passwords as they are, which takes no time."""

    async def hash(self, password: str) -> str:
        return f"plain:{password}"

    async def matches(self, password_hash: str, password: str) -> bool:
        return password_hash == f"plain:{password}"


class SessionMemory:
    """Sessions in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.all: dict[UUID, Session] = {}

    async def open(self, session: Session) -> None:
        self.all[session.session_id] = session

    async def find(self, session_id: UUID) -> Session | None:
        return self.all.get(session_id)

    async def advance(self, session_id: UUID, generation: int, under: bytes | None) -> bool:
        session = self.all[session_id]
        if session.revoked or session.generation != generation:
            return False
        self.all[session_id] = msgspec.structs.replace(
            session, generation=generation + 1, spent_under=under
        )
        return True

    async def revoke(self, session_id: UUID) -> None:
        if session_id in self.all:
            self.all[session_id] = msgspec.structs.replace(self.all[session_id], revoked=True)

    async def of_user(self, user_id: UUID) -> list[Session]:
        now = self._clock.now()
        return [
            each for each in self.all.values() if each.user_id == user_id and each.expires_at > now
        ]

    async def purge_expired(self, now: datetime) -> None:
        self.all = {key: each for key, each in self.all.items() if each.expires_at > now}


class FakeProvider:
    """A provider whose notices are the JSON of ProviderNotice, signed by `signature`. It knows
    `intents` by their refs, and offers no calls that change something: only the payment worker
    makes those."""

    name = "fake"
    signature = "signed"

    def __init__(self) -> None:
        self.intents: dict[str, Intent] = {}

    async def create(
        self,
        payment_id: UUID,
        amount_cents: int,
        currency: str,
        *,
        method: str | None,
        idempotency_key: str,
    ) -> Intent:
        raise ProviderRefused("not_here", "commands ask for nothing")

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        raise ProviderRefused("not_here", "commands ask for nothing")

    async def get(self, ref: str) -> Intent:
        if ref not in self.intents:
            raise ProviderRefused("unknown_intent", ref)
        return self.intents[ref]

    async def find(self, payment_id: UUID) -> Intent | None:
        return next((each for each in self.intents.values() if each.payment_id == payment_id), None)

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent:
        raise ProviderRefused("not_here", "commands ask for nothing")

    async def refund(
        self,
        ref: str,
        *,
        amount_cents: int,
        payment_id: UUID,
        refund_id: UUID,
        idempotency_key: str,
    ) -> ProviderRefund:
        raise ProviderRefused("not_here", "commands ask for nothing")

    async def get_refund(self, ref: str) -> ProviderRefund:
        raise ProviderRefused("unknown_refund", ref)

    async def intents_since(self, since: datetime | None, after: str | None) -> list[Intent]:
        return []

    async def refunds_since(
        self, since: datetime | None, after: str | None
    ) -> list[ProviderRefund]:
        return []

    def pay_page(self, payment_id: UUID) -> str | None:
        return f"https://pay.example/{payment_id}"

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        if signature != self.signature:
            raise InvalidSignature("no signature matches")
        return msgspec.json.decode(body, type=ProviderNotice)


class TextLines:
    """A text log in memory: its steps, and the details of each."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def write(self, step: str, **ids: object) -> None:
        self.lines.append((step, ids))


class RefusesLocalhost:
    """Sends no webhooks, and refuses the addresses of this machine."""

    async def check(self, url: str) -> None:
        if "localhost" in url:
            raise Invalid("webhook_url_refused", "that is our own network")

    async def send(self, message: WebhookMessage) -> int:
        return 200


class ImageMemory:
    """Images in memory. Accepts text that begins with "image" as an image, and finds an image at
    every URL except one with "nowhere"."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def make(self, content: bytes) -> Picture:
        if not content.startswith(b"image"):
            raise Invalid("image_unsupported", "that is no image")
        return Picture(full=content, thumbnail=b"small " + content)

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        if "nowhere" in url:
            raise Invalid("image_unreachable", "there is nothing")
        return b"image of " + url.encode()

    async def put(self, key: str, content: bytes) -> None:
        self.kept[key] = content

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def exists(self, key: str) -> bool:
        return key in self.kept


class FakePorts:
    """All ports of commands, as `commands.services.Ports` declares them."""

    def __init__(
        self, clock: Clock, belongings: Belongings, carrier_signatures: CarrierSignatures
    ) -> None:
        self.belongings = belongings
        self.carrier_signatures = carrier_signatures
        self.hasher = PlainHasher()
        self.image_store = self.image_maker = self.image_fetcher = ImageMemory()
        self.payment_provider = FakeProvider()
        self.payment_webhook_log = TextLines()
        self.sessions = SessionMemory(clock)
        self.webhook_sender = RefusesLocalhost()
