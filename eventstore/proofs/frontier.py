"""The right edge of a growing Merkle tree: next leaves and the root are computed from it."""

from collections.abc import Iterable, Sequence

import msgspec

from eventstore.proofs.merkle import EMPTY, LEVEL_BITS, WIDTH, Span, join, leaf_hash


class StoredNode(msgspec.Struct, frozen=True):
    """A complete node of WIDTH**level leaves."""

    level: int
    number: int
    hash: bytes


def edge(size: int) -> list[Span]:
    """What a frontier of this size consists of, from the leaves up: of each level the nodes behind
    the last complete one of the next level."""
    found = []
    for level in range(size.bit_length() // LEVEL_BITS + 1):
        count = size >> (level * LEVEL_BITS)
        found.append(Span(level, count - count % WIDTH, count % WIDTH))
    return found


class Frontier:
    """A tree of `size` leaves, of which only its edge is kept: at most WIDTH - 1 nodes a level."""

    def __init__(self, size: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        """`levels` are the hashes of `edge(size)`."""
        self.size = size
        self._levels = [list(hashes) for hashes in levels] or [[]]

    def add(self, data: Iterable[bytes]) -> list[StoredNode]:
        """Add leaves. Returns the nodes that they complete."""
        leaves = [leaf_hash(each) for each in data]
        self._levels[0] += leaves
        self.size += len(leaves)
        return self._complete()

    @property
    def root(self) -> bytes:
        found: list[bytes] = []
        for hashes in self._levels:
            found = [join([*hashes, *found])] if hashes or found else []
        return found[0] if found else EMPTY

    def _complete(self) -> list[StoredNode]:
        made: list[StoredNode] = []
        level = 0
        while level < len(self._levels):
            hashes = self._levels[level]
            whole = len(hashes) // WIDTH
            above = [join(hashes[n * WIDTH : (n + 1) * WIDTH]) for n in range(whole)]
            if above:
                del hashes[: whole * WIDTH]
                if level + 1 == len(self._levels):
                    self._levels.append([])
                self._levels[level + 1] += above
                end = self.size >> ((level + 1) * LEVEL_BITS)
                first = end - whole
                made += [StoredNode(level + 1, first + n, each) for n, each in enumerate(above)]
            level += 1
        return made
