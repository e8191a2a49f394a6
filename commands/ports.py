"""What the write side needs from the world. `adapters/` fulfils these; nothing here knows how."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

import msgspec

# -- payment providers -------------------------------------------------------------------------------------------------

IntentStatus = Literal["requires_payment_method", "requires_action", "processing", "succeeded", "canceled", "failed"]


class Intent(msgspec.Struct, frozen=True):
    """A provider's payment intent as it stands. `code` and `detail` say why the last attempt failed, if it did;
    `payment_id` is None when it names none of ours; `refunded_cents` is all that went back, where a notice tells it."""

    ref: str
    status: IntentStatus
    amount_cents: int
    currency: str
    payment_id: UUID | None
    client_secret: str = ""
    redirect_url: str = ""
    code: str = ""
    detail: str = ""
    refunded_cents: int = 0


RefundStatus = Literal["PENDING", "SUCCEEDED", "FAILED"]


class ProviderRefund(msgspec.Struct, frozen=True):
    """A refund as it stands at the provider: that it took it on does not mean that the money has gone. `code` says why
    it failed, if it did. `payment_id` and `refund_id` are ours, None when it was made by hand; `intent_ref` is what it
    is of, where the provider says so.
    """

    ref: str
    amount_cents: int
    status: RefundStatus = "SUCCEEDED"
    code: str = ""
    payment_id: UUID | None = None
    refund_id: UUID | None = None
    intent_ref: str = ""


class ProviderNotice(msgspec.Struct, frozen=True):
    """A verified webhook notice: its own id (for ever unique), its type, and the intent or the refund it speaks of."""

    event_id: str
    type: str
    created: datetime
    intent: Intent | None
    refund: ProviderRefund | None = None


class ProviderUnavailable(Exception):
    """No answer, a time-out or a 5xx: it may have happened or not; ask again under the same idempotency key."""


class ProviderRefused(Exception):
    """The provider said no to the call itself (a 4xx that no retry mends)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class InvalidSignature(Exception):
    """A webhook whose signature is missing, wrong, too old or from the future."""


class Overloaded(Exception):
    """Too many ask at once for what takes long: ask again in a moment."""


class PaymentProvider(Protocol):
    """A provider of card payments. Every call that changes something is idempotent under the key it is given."""

    name: str

    async def create(
        self, payment_id: UUID, amount_cents: int, currency: str, *, method: str | None, idempotency_key: str
    ) -> Intent:
        """Create the payment's intent and, with a method, confirm it. Raises ProviderUnavailable, ProviderRefused."""
        ...

    async def confirm(self, ref: str, *, method: str, idempotency_key: str) -> Intent:
        """Try a method on an intent that awaits one."""
        ...

    async def get(self, ref: str) -> Intent: ...

    async def find(self, payment_id: UUID) -> Intent | None:
        """The intent made for a payment, when its ref never reached us."""
        ...

    async def cancel(self, ref: str, *, idempotency_key: str) -> Intent: ...

    async def refund(
        self, ref: str, *, amount_cents: int, payment_id: UUID, refund_id: UUID, idempotency_key: str
    ) -> ProviderRefund:
        """Ask for money of an intent to go back. The provider keeps our ids with the refund, and tells them with it."""
        ...

    async def get_refund(self, ref: str) -> ProviderRefund: ...

    def pay_page(self, payment_id: UUID) -> str | None:
        """The provider's page on which this payment is paid in a browser; None when it has none."""
        ...

    def parse_webhook(self, body: bytes, signature: str, now: datetime) -> ProviderNotice:
        """Verify and read a notice. Raises InvalidSignature; ValueError when the body is not a notice."""
        ...


class CarrierSignatures(Protocol):
    """Knows the parcel carrier's notices by their signatures."""

    def check(self, body: bytes, signature: str, now: datetime) -> None:
        """Return when the carrier signed this body within the last minutes. Raises InvalidSignature."""
        ...


# -- work queues -------------------------------------------------------------------------------------------------------


class Job(msgspec.Struct, frozen=True):
    """A piece of work. Publishing the same id twice is publishing it once, as far as the queue can tell; handlers are
    idempotent all the same."""

    id: UUID
    kind: str
    body: Mapping[str, str] = {}


class Delivery(msgspec.Struct, frozen=True):
    """A job handed to a worker: the how-manieth attempt this is, from 1, and whether it is the last."""

    job: Job
    attempt: int
    last: bool


class DeadLetter(msgspec.Struct, frozen=True):
    """A job that failed for good, and why."""

    job: Job
    queue: str
    error: str
    attempts: int
    died_at: datetime | None


JobHandler = Callable[[Delivery], Awaitable[None]]


class WorkQueue(Protocol):
    """A durable queue: at least once, retried with backoff, dead-lettered after the last attempt."""

    name: str

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Returns when the jobs are safe."""
        ...

    async def consume(self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None) -> None:
        """Hand jobs to the handler until cancelled. An exception means: again later, or dead after the last attempt.

        `lost` is told of a job whose worker was lost in the last attempt; whatever it does, the job is dead then.
        """
        ...

    async def depth(self) -> int:
        """Jobs that wait or are being worked on."""
        ...

    async def dead(self) -> int:
        """How many dead letters there are."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]: ...

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead job back to work with fresh attempts. False when there is none of that id."""
        ...


# -- notices to people -------------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True):
    """A notice as a carrier takes it. A repeat has the same `notice_id`, and is the same message.

    `subject` is one line. A carrier looks the person up by `email` or by `user_id`, whichever it knows people by.
    """

    notice_id: UUID
    user_id: UUID
    template: str
    email: str
    name: str
    subject: str
    text: str


class NotDelivered(Exception):
    """The carrier did not take a message, or it is unknown whether it did: send it again later.

    `code` tells what a person must mend from what passes by itself:
    `recipient_refused`, `message_refused`, `login_refused`: a permanent no, to the address, to the message or to us;
    `try_later`: a temporary no; `unreachable`: no connection, or no answer in time.
    `detail` is for operators, and names nobody.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Carrier(Protocol):
    """Carries notices to people: by mail, by push."""

    async def send(self, message: Message) -> str:
        """Hand a message over; returns the carrier's reference. Raises NotDelivered."""
        ...


# -- fiscal receipts ---------------------------------------------------------------------------------------------------


class IssuedReceipt(msgspec.Struct, frozen=True):
    """A receipt as the fiscal operator has it: its reference there, and where people see it."""

    ref: str
    url: str | None = None


class OperatorUnavailable(Exception):
    """No answer from the fiscal operator: it may have the receipt or not; ask again under the same idempotency key."""


class OperatorRefused(Exception):
    """The fiscal operator said no to the receipt as it is."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class FiscalOperator(Protocol):
    """Whoever sales are reported to by law. It may be told of a book's numbers in any order, each once."""

    async def issue(
        self,
        *,
        seller_id: UUID,
        year: int,
        number: int,
        order_id: UUID,
        amount_cents: int,
        currency: str,
        idempotency_key: str,
    ) -> IssuedReceipt:
        """Report a sale. Under the key of an earlier call the answer is that call's.

        Raises OperatorUnavailable, OperatorRefused.
        """
        ...


# -- outgoing webhooks -------------------------------------------------------------------------------------------------


class WebhookMessage(msgspec.Struct, frozen=True):
    """One message to a merchant's server. A repeat has the same `message_id`; each of the secrets signs it."""

    message_id: str
    url: str
    body: bytes
    secrets: Sequence[str]
    sent_at: datetime


class WebhookUnsent(Exception):
    """The message did not arrive, as far as we know: send it again. `code` says why (timeout, http_500, …)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class WebhookSender(Protocol):
    """Calls servers of merchants, but none in our own network."""

    async def check(self, url: str) -> None:
        """Raises Invalid("webhook_url_refused") when it would not call this."""
        ...

    async def send(self, message: WebhookMessage) -> int:
        """Post the message; returns the answer's HTTP status, whatever it is. Raises WebhookUnsent without one."""
        ...


# -- images ------------------------------------------------------------------------------------------------------------


class Picture(msgspec.Struct, frozen=True):
    """An image made safe to serve, and its thumbnail: bytes of the same format, PNG, JPEG or WebP."""

    full: bytes
    thumbnail: bytes


class ImageMaker(Protocol):
    """Makes images of what people send, off the event loop."""

    async def make(self, content: bytes) -> Picture:
        """Raises Invalid: image_unsupported, image_broken, image_too_large."""
        ...


class ImageFetcher(Protocol):
    """Gets images from addresses that people give us."""

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Raises Invalid: image_url_refused, image_unreachable, image_too_large."""
        ...


class ImageStoreUnavailable(Exception):
    """The store gave no answer, or none that helps: try again later."""


class ImageStore(Protocol):
    """Keeps bytes under keys of letters, digits and dashes. What is under a key never changes. All may raise
    ImageStoreUnavailable."""

    async def put(self, key: str, content: bytes) -> None:
        """Returns when the bytes are safe."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def exists(self, key: str) -> bool: ...


# -- sessions ----------------------------------------------------------------------------------------------------------


class Session(msgspec.Struct, frozen=True):
    """A login: each refresh spends one generation of its token and makes the next. `epoch` is its account's at the
    login; whether the account keeps it, the account knows (`domain.identity.User.keeps`)."""

    session_id: UUID
    user_id: UUID
    generation: int
    expires_at: datetime
    epoch: int = 0
    revoked: bool = False


class Sessions(Protocol):
    """Keeps the sessions: state of the program's door, not facts of the shop, so not in the log."""

    async def open(self, session: Session) -> None: ...

    async def find(self, session_id: UUID) -> Session | None: ...

    async def advance(self, session_id: UUID, generation: int) -> bool:
        """Spend this generation; False when it was spent already, or the session is revoked."""
        ...

    async def revoke(self, session_id: UUID) -> None: ...

    async def of_user(self, user_id: UUID) -> list[Session]:
        """Those that have not expired, ended ones too."""
        ...


class PersonKeys(Protocol):
    """Keys that personal fields are encrypted under."""

    async def create(self, person_ids: Iterable[UUID]) -> None: ...

    async def destroy(self, person_id: UUID) -> None: ...


class PasswordHasher(Protocol):
    """Hashes passwords slowly, off the event loop."""

    async def hash(self, password: str) -> str: ...

    async def matches(self, password_hash: str, password: str) -> bool:
        """False for another password; an empty hash matches nothing, in the same time."""
        ...


class TextLog(Protocol):
    """A plain text log for people: one line per step."""

    def write(self, step: str, **ids: object) -> None: ...
