"""Events to bytes and back: wire names, upcasters, and personal fields under one key per person.

A payload is JSON. A personal field is stored as "1:" and the base64 of nonce ‖ AES-256-GCM
ciphertext of the field's JSON, with the stream id and the field's name as associated data, so that
a ciphertext cannot be decrypted elsewhere.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from os import urandom
from typing import Any, get_args, get_type_hints
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventstore.log import WrongKind
from kit.forgotten import ENCRYPTED, FORGOTTEN

KeyOf = Callable[[UUID], bytes | None]
Payload = dict[str, Any]  # any JSON object, as an upcaster sees it
Upcaster = tuple[str, Callable[[Payload], Payload]]


class UnknownEvent(Exception):
    """No registered class has this wire name, even after upcasting."""


class MissingKey(Exception):
    """A personal field cannot be stored: its person has no key (never
    had one, or was forgotten)."""


def kind_of(event: type[msgspec.Struct]) -> str:
    """The kind of stream that holds events of this class: its `KIND`, or else the first word of its
    wire name."""
    kind: str = getattr(event, "KIND", "") or _first_word(event.NAME)  # type: ignore[attr-defined]
    return kind


@cache
def _first_word(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def kind_of_all(events: Sequence[msgspec.Struct]) -> str:
    """The one kind of stream that holds these events, at least one. Raises WrongKind when they
    belong to several."""
    kind = kind_of(type(events[0]))
    if len(events) > 1 and any(kind_of(type(event)) != kind for event in events):
        raise WrongKind(
            f"events of several kinds for one stream: {sorted({kind_of(type(e)) for e in events})}"
        )
    return kind


class _Kind:
    """How one event class is encoded and decoded."""

    def __init__(self, cls: type[msgspec.Struct]) -> None:
        self.cls = cls
        self.name: str = cls.NAME  # type: ignore[attr-defined]
        self.person: str = cls.PERSON  # type: ignore[attr-defined]
        self.decoder = msgspec.json.Decoder(cls)
        self.personal = _personal_fields(cls)
        self.wire_decoder: msgspec.json.Decoder[msgspec.Struct] | None = None
        if self.personal:
            fields = [
                (f.name, str | None if f.name in self.personal else f.type, None)
                if f.name in self.personal or not f.required
                else (f.name, f.type)
                for f in sorted(
                    msgspec.structs.fields(cls),
                    key=lambda f: not f.required or f.name in self.personal,
                )
            ]
            self.wire_decoder = msgspec.json.Decoder(
                msgspec.defstruct(cls.__name__ + "Wire", fields)
            )

    def has_personal(self, event: msgspec.Struct) -> bool:
        """Whether any personal field is filled: without one, no key is needed."""
        return any(getattr(event, field) is not None for field in self.personal)


def _personal_fields(cls: type[msgspec.Struct]) -> dict[str, object]:
    """The fields marked personal, with what each reads as once the person's key is destroyed.

    Raises TypeError for a mark inside a field, where it would not be encrypted, and for a field
    that could not be read without a key: it must be a text, or optional.
    """
    found: dict[str, object] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        plain = get_type_hints(cls)[name]
        optional = type(None) in get_args(plain)
        if _is_personal(hint) or (optional and any(map(_is_personal, get_args(hint)))):
            if plain is not str and not optional:
                raise TypeError(
                    f"{cls.__name__}.{name}: a personal field is a text, or may be None"
                )
            found[name] = None if optional else FORGOTTEN
        elif _holds_personal(hint):
            raise TypeError(f"{cls.__name__}.{name}: only a whole field can be personal")
    return found


def _is_personal(hint: object) -> bool:
    marks = getattr(hint, "__metadata__", ())
    return any(
        isinstance(mark, msgspec.Meta) and mark.extra and mark.extra.get("personal")
        for mark in marks
    )


def _holds_personal(hint: object) -> bool:
    inner = list(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        inner = list(get_type_hints(hint, include_extras=True).values())
    return any(_is_personal(part) or _holds_personal(part) for part in inner)


class Codec:
    """Encodes and decodes the events of one registry.

    `upcasters` maps an old wire name to the name of its next shape and a function from the old JSON
    object to the new one.
    """

    def __init__(
        self,
        events: Mapping[str, type[msgspec.Struct]],
        upcasters: Mapping[str, Upcaster] | None = None,
    ) -> None:
        self._kinds = {name: _Kind(cls) for name, cls in events.items()}
        self._upcasters = dict(upcasters or {})
        self._encode = msgspec.json.Encoder().encode
        for old, (new, _) in self._upcasters.items():
            if new not in self._kinds and new not in self._upcasters:
                raise ValueError(f"{old} is upcast to {new}, which nothing reads")

        self.kinds: dict[str, str] = {
            name: kind_of(self._kinds[self._final(name)].cls)
            for name in (*self._kinds, *self._upcasters)
        }
        """The kind of stream by wire name, including old names that are upcast."""

    # -- names -------------------------------------------------------------------------------------

    def names_of(self, classes: Iterable[type[msgspec.Struct]]) -> list[str]:
        """Every wire name that reads as one of these classes, the old ones that are upcast among
        them."""
        wanted = {cls.NAME for cls in classes}  # type: ignore[attr-defined]
        return sorted(wanted | {old for old in self._upcasters if self._final(old) in wanted})

    def knows(self, name: str) -> bool:
        """Whether events of this wire name can be read."""
        return self._final(name) in self._kinds

    def _final(self, name: str) -> str:
        while name in self._upcasters:
            name = self._upcasters[name][0]
        return name

    def meaning(self, name: str) -> str:
        """What an event of this wire name means, for people: the first sentence about its class;
        the name of one that is not known."""
        kind = self._kinds.get(self._final(name))
        text = " ".join((kind.cls.__doc__ or "").split()) if kind else ""
        return text.split(". ")[0].rstrip(".").replace("`", "") or name

    def is_personal(self, cls: type[msgspec.Struct]) -> bool:
        """Whether events of this class have personal fields."""
        return bool(self._kinds[cls.NAME].personal)  # type: ignore[attr-defined]

    # -- writing -----------------------------------------------------------------------------------

    def person_of(self, event: msgspec.Struct, stream_id: UUID) -> UUID | None:
        """The person whose key the event's personal fields need; None when it has none."""
        kind = self._kinds[event.NAME]  # type: ignore[attr-defined]
        if not kind.personal or not kind.has_personal(event):
            return None
        return getattr(event, kind.person) if kind.person else stream_id

    def encode(self, event: msgspec.Struct, stream_id: UUID, key: bytes | None = None) -> bytes:
        """The payload as stored. Raises MissingKey when a personal field is filled and there is no
        key."""
        kind = self._kinds[event.NAME]  # type: ignore[attr-defined]
        if not kind.personal or not kind.has_personal(event):
            return self._encode(event)
        if key is None:
            raise MissingKey(f"no key for {kind.name} of stream {stream_id}")
        payload: Payload = msgspec.to_builtins(event)
        for field in kind.personal:
            if payload.get(field) is not None:
                payload[field] = encrypt(self._encode(payload[field]), key, stream_id, field)
        return self._encode(payload)

    def person_given(self, name: str, payload: Mapping[str, Any], stream_id: UUID) -> UUID | None:
        """The person whose key a payload in plain needs; None when its event has no personal
        fields. Raises ValueError, LookupError."""
        kind = self._kinds[self._final(name)]
        if not kind.personal:
            return None
        return UUID(str(payload[kind.person])) if kind.person else stream_id

    def sealed(
        self,
        name: str,
        payload: Mapping[str, Any],
        stored: bytes,
        stream_id: UUID,
        key: bytes | None,
    ) -> bytes:
        """A payload in plain as it is stored in place of `stored`: with its personal fields
        encrypted. One that is given as ENCRYPTED stays as it is there.

        Raises MissingKey; ValueError for a field that the event does not have; LookupError,
        msgspec.MsgspecError where `stored` has not what is to stay.
        """
        kind, body = self._kinds[self._final(name)], dict(payload)
        if name in self._kinds and (odd := body.keys() - set(kind.cls.__struct_fields__)):
            raise ValueError(f"it has no field {', '.join(sorted(odd))}")
        for field in kind.personal:
            if (text := body.get(field)) == ENCRYPTED:
                before = msgspec.json.decode(stored, type=Payload)
                body[field] = token = before[field]
                same = not kind.person or before.get(kind.person) == str(body[kind.person])
                if not same and key and decrypt(token, key, stream_id, field) is None:
                    raise ValueError(f"{field} is encrypted with the key of another person")
            elif text is not None:
                if key is None:
                    raise MissingKey(f"{field} is personal, and its person has no key any more")
                body[field] = encrypt(self._encode(text), key, stream_id, field)
        return self._encode(body)

    # -- reading -----------------------------------------------------------------------------------

    def decode_plain(self, name: str, payload: bytes) -> msgspec.Struct | None:
        """The event of a stored payload, if none of its personal fields is filled; None when
        `decode` is needed. Raises UnknownEvent, msgspec.ValidationError."""
        kind, payload = self._current(name, payload)
        if not kind.personal:
            return kind.decoder.decode(payload)
        try:
            event = kind.decoder.decode(payload)
        except msgspec.ValidationError:  # an encrypted field is a text, whatever it encrypts
            return None
        return None if kind.has_personal(event) else event

    def reader_of(self, name: str) -> Callable[[bytes], msgspec.Struct] | None:
        """The plain decoder of a wire name that needs neither a key nor
        upcasting; None otherwise."""
        kind = self._kinds.get(name)
        return (
            None
            if kind is None or kind.personal or name in self._upcasters
            else kind.decoder.decode
        )

    def person_in(self, name: str, payload: bytes, stream_id: UUID) -> UUID | None:
        """The person whose key a stored payload needs; None when it needs none."""
        kind, payload = self._current(name, payload)
        if kind.wire_decoder is None:
            return None
        wire = kind.wire_decoder.decode(payload)
        if not kind.has_personal(wire):
            return None
        return getattr(wire, kind.person) if kind.person else stream_id

    def decode(
        self, name: str, payload: bytes, stream_id: UUID, key_of: KeyOf = lambda _: None
    ) -> msgspec.Struct:
        """The event of a stored payload. Personal fields whose key is destroyed read as FORGOTTEN
        (or None).

        Raises UnknownEvent, msgspec.ValidationError.
        """
        kind, payload = self._current(name, payload)
        if kind.wire_decoder is None:
            return kind.decoder.decode(payload)
        wire = kind.wire_decoder.decode(payload)
        if not kind.has_personal(wire):
            return kind.decoder.decode(payload)
        key = key_of(getattr(wire, kind.person) if kind.person else stream_id)
        body: Payload = msgspec.json.decode(payload)
        for field, gone in kind.personal.items():
            token = body.get(field)
            if token is not None:
                text = decrypt(token, key, stream_id, field) if key else None
                body[field] = gone if text is None else msgspec.json.decode(text)
        return msgspec.convert(body, kind.cls)

    def _current(self, name: str, payload: bytes) -> tuple[_Kind, bytes]:
        if name in self._upcasters:
            body: Payload = msgspec.json.decode(payload)
            while name in self._upcasters:
                name, upcast = self._upcasters[name]
                body = upcast(body)
            payload = self._encode(body)
        kind = self._kinds.get(name)
        if kind is None:
            raise UnknownEvent(name)
        return kind, payload


def encrypt(text: bytes, key: bytes, stream_id: UUID, field: str) -> str:
    """Encrypt with AES-256-GCM and a fresh nonce, bound to the stream and field."""
    nonce = urandom(12)
    return (
        "1:"
        + b64encode(nonce + AESGCM(key).encrypt(nonce, text, _bound_to(stream_id, field))).decode()
    )


def decrypt(token: str, key: bytes, stream_id: UUID, field: str) -> bytes | None:
    """Decrypt a token; None when this key does not fit (the person was forgotten and came back)."""
    raw = b64decode(token.removeprefix("1:"))
    try:
        return AESGCM(key).decrypt(raw[:12], raw[12:], _bound_to(stream_id, field))
    except InvalidTag:
        return None


def _bound_to(stream_id: UUID, field: str) -> bytes:
    return stream_id.bytes + field.encode()
