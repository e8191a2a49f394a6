"""The Merkle tree of RFC 9162 (section 2.1): roots, proofs, and what a proof needs of the tree.

Leaves are numbered from 0. A node is named by the leaves under it, `start` to before `end`. A node
is *complete* when the number of its leaves is a power of two: it never changes again, and may be
stored. Every other node lies at the right edge, and follows from complete ones.

    leaf hash = SHA-256( 0x00 ‖ data )
    node hash = SHA-256( 0x01 ‖ left ‖ right )
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

EMPTY = sha256(b"").digest()
"""The root of a tree without leaves."""

LEVEL_BITS = 8
"""Of the complete nodes, those of 256, 256², … leaves are stored: a level each."""

WIDTH = 1 << LEVEL_BITS
"""How many nodes of a level make one of the next."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def join(hashes: Sequence[bytes]) -> bytes:
    """The root over nodes that lie side by side and have the same number of leaves; the last one
    may have fewer."""
    if not hashes:
        return EMPTY
    while len(hashes) > 1:
        pairs = zip(hashes[::2], hashes[1::2], strict=False)
        above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        if len(hashes) % 2:
            above.append(hashes[-1])
        hashes = above
    return hashes[0]


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaves, given their data."""
    return join([leaf_hash(data) for data in leaves])


# -- which nodes make up a proof -------------------------------------------------------------------


class Node(msgspec.Struct, frozen=True):
    """A node, by the leaves under it."""

    start: int
    end: int


class Span(msgspec.Struct, frozen=True):
    """Neighbours on a level: `count` nodes from the one numbered `first`, of WIDTH**level leaves
    each."""

    level: int
    first: int
    count: int


def _split(size: int) -> int:
    """The largest power of two below a size of two or more: where RFC 9162 parts a tree."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_nodes(index: int, size: int) -> list[Node]:
    """The nodes whose hashes prove a leaf in a tree of this size, from the leaf up to the root
    (RFC 9162, 2.1.3.1). Raises ValueError for a leaf that is not in the tree."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    nodes, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            nodes.append(Node(middle, end))
            end = middle
        else:
            nodes.append(Node(start, middle))
            start = middle
    return nodes[::-1]


def consistency_nodes(old: int, new: int) -> list[Node]:
    """The nodes whose hashes prove that the tree of the size `old` is the beginning of that of the
    size `new` (RFC 9162, 2.1.4.1). Raises ValueError unless 0 < old ≤ new."""
    if not 0 < old <= new:
        raise ValueError(f"a tree of {old} cannot be the beginning of one of {new}")
    nodes, start, end = [], 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            nodes.append(Node(middle, end))
            end = middle
        else:
            nodes.append(Node(start, middle))
            start = middle
    if start > 0:
        nodes.append(Node(start, end))
    return nodes[::-1]


def spans(node: Node) -> list[Span]:
    """The stored nodes from which a node's hash follows: the complete nodes that it consists of,
    the largest first, each as neighbours on the level below it."""
    found, start = [], node.start
    left = node.end - node.start
    while left:
        height = left.bit_length() - 1
        level = height // LEVEL_BITS
        per_node = level * LEVEL_BITS
        found.append(Span(level, start >> per_node, 1 << (height - per_node)))
        start += 1 << height
        left -= 1 << height
    return found


def hash_of(stored: Sequence[Sequence[bytes]]) -> bytes:
    """A node's hash, from the hashes of its `spans`."""
    complete = [join(hashes) for hashes in stored]
    if not complete:
        return EMPTY
    found = complete[-1]
    for left in reversed(complete[:-1]):
        found = node_hash(left, found)
    return found


# -- checking a proof ------------------------------------------------------------------------------


def root_by_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf (its hash) and its path lead to (RFC 9162, 2.1.3.2); None when the path
    does not fit the index and the size."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if at % 2 or at == last:
            found = node_hash(sibling, found)
            while not at % 2 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether a path proves that the tree with the old root is the beginning of that with the new
    one (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not path and old_root == new_root
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes:
        return False
    at, last = old - 1, new - 1
    while at % 2:
        at, last = at >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not at % 2 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root
