"""The reservations of a stock item: an immutable mapping, which each event replaces.

A best-seller has very many holds, and each event touches one. So successive mappings share
everything else (rpds: hash tries), and an index answers which holds are overdue and which belong to
whom. The index is built at the first such question, as loading a stock item asks none, and is kept
in step from then on.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from rpds import HashTrieMap

from domain.errors import Conflict, Invalid, NotFound

Kind = Literal["SOFT", "HARD"]
Ids: TypeAlias = "HashTrieMap[UUID, None]"

NOBODYS: Ids = HashTrieMap()


class Reservation(msgspec.Struct, frozen=True):
    """A hold on units: SOFT by a cart, HARD by an order. `buyer_id` is None for those of other
    systems, and for old ones."""

    kind: Kind
    quantity: int
    expires_at: datetime
    cart_id: UUID | None = None
    order_id: UUID | None = None
    buyer_id: UUID | None = None

    @property
    def owners(self) -> set[UUID]:
        """The cart, order and buyer, as far as known."""
        return {
            owner for owner in (self.cart_id, self.order_id, self.buyer_id) if owner is not None
        }

    def lasts(self, now: datetime) -> bool:
        """Whether it holds its units still: an overdue soft hold does not."""
        return self.kind == "HARD" or now < self.expires_at


class HoldName(msgspec.Struct, frozen=True):
    """Identifies a reservation by id, or as the only one of a cart or order; any field given must
    match."""

    reservation_id: UUID | None = None
    cart_id: UUID | None = None
    order_id: UUID | None = None
    quantity: int | None = None

    def fits(self, held: Reservation) -> bool:
        """Whether the cart and the order, as far as given, are the hold's."""
        return self.cart_id in (None, held.cart_id) and self.order_id in (None, held.order_id)


class Reservations(Mapping[UUID, Reservation]):
    """Reservations by id."""

    __slots__ = ("_by_id", "_known")

    def __init__(self, holds: Mapping[UUID, Reservation] = {}) -> None:
        self._by_id: HashTrieMap[UUID, Reservation] = HashTrieMap.convert(holds)
        self._known: _Index | None = None

    @classmethod
    def convert(cls, holds: Mapping[UUID, Reservation]) -> "Reservations":
        """These holds; free of cost when they are a Reservations already."""
        return holds if isinstance(holds, Reservations) else cls(holds)

    def __getitem__(self, reservation_id: UUID) -> Reservation:
        return self._by_id[reservation_id]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"Reservations({dict(self)})"

    def replaced(self, reservation_id: UUID, after: Reservation | None) -> "Reservations":
        """The holds with this one set, or removed (None)."""
        before = self._by_id.get(reservation_id)
        following = Reservations(
            self._by_id.discard(reservation_id)
            if after is None
            else self._by_id.insert(reservation_id, after)
        )
        if self._known is not None:
            following._known = self._known.replaced(reservation_id, before, after)
        return following

    def of(self, *owners: UUID) -> list[UUID]:
        """The holds of any of these carts, orders or buyers, each once."""
        by_owner = self._index.by_owner
        return sorted({*chain.from_iterable(by_owner.get(owner, NOBODYS) for owner in owners)})

    def due(self, kind: Kind, now: datetime) -> Iterator[UUID]:
        """The overdue holds of a kind, the longest overdue first; of HARD ones only those without a
        buyer, as the others end with their order. Costs nothing for holds that are not due."""
        for ids in _upto(self._index.by_end.get(kind, {}), _time(now)):
            found = sorted((self._by_id[each].expires_at, each) for each in ids)
            yield from (each for expires_at, each in found if now >= expires_at)

    def get_held(self, reservation_id: UUID) -> Reservation:
        """The reservation with this id. Raises NotFound("reservation_not_found")."""
        held = self._by_id.get(reservation_id)
        if held is None:
            raise _not_found()
        return held

    def find(self, name: HoldName, now: datetime, kind: Kind | None = None) -> UUID:
        """The id of the named hold. Without a reservation id, searches the holds of this `kind`
        that are not overdue.

        Raises Invalid("hold_not_named"); NotFound("reservation_not_found"); Conflict:
        several_reservations (with `reservation_ids`), quantity_mismatch (with `quantity`).
        """
        if name.reservation_id is not None:
            found = {name.reservation_id: self.get_held(name.reservation_id)}
        elif owners := [owner for owner in (name.cart_id, name.order_id) if owner is not None]:
            owned = {key: self._by_id[key] for key in self.of(*owners)}
            found = {
                key: held
                for key, held in owned.items()
                if kind in (None, held.kind) and held.lasts(now)
            }
        else:
            raise Invalid(
                "hold_not_named", "name a hold by its reservation_id, or by its cart or order"
            )
        fits = {key: held for key, held in found.items() if name.fits(held)}
        if not fits:
            raise _not_found()
        if len(fits) > 1:
            raise Conflict(
                "several_reservations",
                "several reservations match: name one by its reservation_id",
                reservation_ids=sorted(map(str, fits)),
            )
        ((reservation_id, held),) = fits.items()
        if name.quantity not in (None, held.quantity):
            raise Conflict(
                "quantity_mismatch",
                f"the reservation holds {held.quantity} units",
                quantity=held.quantity,
            )
        return reservation_id

    @property
    def _index(self) -> "_Index":
        if self._known is None:
            self._known = _Index.of(self._by_id)
        return self._known


def _not_found() -> NotFound:
    return NotFound("reservation_not_found", "there is no such reservation, or it has ended")


class _Index(msgspec.Struct, frozen=True):
    """The ids of holds by owner (cart, order, buyer), and by kind, hour, minute and second of their
    expiry."""

    by_owner: Any  # HashTrieMap[UUID, Ids]
    by_end: Any  # dict of dicts of Ids

    @classmethod
    def of(cls, holds: Mapping[UUID, Reservation]) -> "_Index":
        owned: dict[UUID, list[UUID]] = {}
        ends: dict[tuple[object, ...], list[UUID]] = {}
        for reservation_id, held in holds.items():
            if not _ends_with_its_order(held):
                ends.setdefault(_end(held), []).append(reservation_id)
            for owner in held.owners:
                owned.setdefault(owner, []).append(reservation_id)
        by_end: dict[object, Any] = {}
        for (*steps, second), ids in ends.items():
            tree = by_end
            for step in steps:
                tree = tree.setdefault(step, {})
            tree[second] = _ids(ids)
        return cls(HashTrieMap({owner: _ids(ids) for owner, ids in owned.items()}), by_end)

    def replaced(
        self, reservation_id: UUID, before: Reservation | None, after: Reservation | None
    ) -> "_Index":
        by_owner, by_end = self.by_owner, self.by_end
        for held in (before, after):
            if held is not None and not _ends_with_its_order(held):
                by_end = _marked(by_end, _end(held), reservation_id, present=held is after)
        owned = set() if before is None else before.owners
        owns = set() if after is None else after.owners
        for owner in owned ^ owns:  # mostly few: a hold that is extended keeps its owners
            ids = by_owner.get(owner, NOBODYS)
            ids = ids.insert(reservation_id, None) if owner in owns else ids.discard(reservation_id)
            by_owner = by_owner.insert(owner, ids) if len(ids) else by_owner.discard(owner)
        return _Index(by_owner, by_end)


def _ids(ids: Iterable[UUID]) -> Ids:
    return HashTrieMap.fromkeys(ids)


def _ends_with_its_order(held: Reservation) -> bool:
    return held.kind == "HARD" and held.buyer_id is not None


def _time(at: datetime) -> tuple[int, int, int]:
    second = int(at.timestamp() // 1)
    return second // 3600, second // 60 % 60, second % 60


def _end(held: Reservation) -> tuple[object, ...]:
    return held.kind, *_time(held.expires_at)


def _marked(tree: Any, path: tuple[object, ...], reservation_id: UUID, *, present: bool) -> Any:
    """The tree with an id added at the end of a path, or removed from it. Copies some sixty entries
    per level."""
    if not path:
        ids: Ids = tree or NOBODYS
        return ids.insert(reservation_id, None) if present else ids.discard(reservation_id)
    following = {**tree}
    below = _marked(following.pop(path[0], {}), path[1:], reservation_id, present=present)
    return {**following, path[0]: below} if len(below) else following


def _upto(tree: Mapping[int, Any], time: tuple[int, ...]) -> Iterator[Ids]:
    """The leaves of all paths up to this time, in order; of all paths when no time is given."""
    for step in sorted(tree):
        if time and step > time[0]:
            return
        below, rest = tree[step], time[1:] if time and step == time[0] else ()
        if isinstance(below, HashTrieMap):
            yield below
        else:
            yield from _upto(below, rest)
