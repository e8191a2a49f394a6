"""The Merkle tree: RFC 9162's algorithms, with the known roots of Certificate Transparency."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.proofs import merkle
from eventstore.proofs.frontier import Frontier, edge
from eventstore.proofs.merkle import Node, leaf_hash, node_hash

# https://github.com/google/certificate-transparency/blob/master/cpp/merkletree/merkle_tree_test.cc
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def _data(count: int) -> list[bytes]:
    return [n.to_bytes(8, "big") for n in range(count)]


def _mth(leaves: list[bytes]) -> bytes:
    """The root as RFC 9162 defines it, by recursion."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    part = 1
    while part * 2 < len(leaves):
        part *= 2
    return node_hash(_mth(leaves[:part]), _mth(leaves[part:]))


def _hash(node: Node, data: list[bytes]) -> bytes:
    """A node's hash by its spans, each of whose nodes is computed from the leaves."""
    stored = []
    for span in merkle.spans(node):
        width = merkle.WIDTH**span.level
        starts = range(span.first * width, (span.first + span.count) * width, width)
        stored.append([_mth(data[start : start + width]) for start in starts])
    return merkle.hash_of(stored)


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size]
    assert _mth(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize("size", range(1, 20))
def test_each_leaf_is_proved_in_each_small_tree_and_no_other_one(size: int) -> None:
    data = _data(size)
    root = merkle.root(data)
    for index in range(size):
        path = [_hash(node, data) for node in merkle.inclusion_nodes(index, size)]
        assert merkle.root_by_inclusion(leaf_hash(data[index]), index, size, path) == root
        others = [(other, size) for other in range(size) if other != index]
        for at, of in [*others, (index, size + 1), (size, size), (-1, size)]:
            found = merkle.root_by_inclusion(leaf_hash(data[index]), at, of, path)
            # a path does not bind the size: the checkpoint does
            assert found != root or (at, of) == (index, size + 1)
        for wrong in ([*path, root], path[:-1], [root, *path[1:]]):
            if wrong != path:
                found = merkle.root_by_inclusion(leaf_hash(data[index]), index, size, wrong)
                assert found != root


@pytest.mark.parametrize("new", range(1, 20))
def test_each_small_tree_is_proved_to_begin_the_next_and_nothing_else(new: int) -> None:
    data = _data(new)
    root = merkle.root(data)
    for old in range(1, new + 1):
        begun = merkle.root(data[:old])
        path = [_hash(node, data) for node in merkle.consistency_nodes(old, new)]
        assert merkle.is_consistent(old, begun, new, root, path)
        another = merkle.root([*data[: old - 1], b"another"])
        assert not merkle.is_consistent(old, another, new, root, path)
        assert not merkle.is_consistent(old, begun, new, another, path)
        assert not merkle.is_consistent(old, begun, new, root, [*path, root])
        if path:
            assert not merkle.is_consistent(old, begun, new, root, path[:-1])
            assert not merkle.is_consistent(old, begun, new, root, [])


LARGE = st.integers(1, 1500)
DATA = _data(1500)


@given(LARGE, st.data())
def test_proofs_hold_in_trees_with_stored_levels(size: int, draw: st.DataObject) -> None:
    data = DATA[:size]
    root = _mth(data)
    index = draw.draw(st.integers(0, size - 1))
    path = [_hash(node, data) for node in merkle.inclusion_nodes(index, size)]
    assert len(path) <= 11
    assert merkle.root_by_inclusion(leaf_hash(data[index]), index, size, path) == root
    old = draw.draw(st.integers(1, size))
    path = [_hash(node, data) for node in merkle.consistency_nodes(old, size)]
    assert merkle.is_consistent(old, _mth(data[:old]), size, root, path)


@given(st.lists(st.integers(0, 700), max_size=4))
def test_a_tree_that_grows_by_its_edge_has_the_same_root_and_nodes(steps: list[int]) -> None:
    frontier, at = Frontier(), 0
    data = _data(sum(steps))
    for step in steps:
        made = frontier.add(data[at : at + step])
        at += step
        assert frontier.root == _mth(data[:at])
        for node in made:
            width = merkle.WIDTH**node.level
            assert node.hash == _mth(data[node.number * width : (node.number + 1) * width])
        kept = [
            [
                _mth(data[n * merkle.WIDTH**span.level : (n + 1) * merkle.WIDTH**span.level])
                for n in range(span.first, span.first + span.count)
            ]
            for span in edge(at)
        ]
        assert Frontier(at, kept).root == frontier.root
        frontier = Frontier(at, kept)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_a_leaf_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_nodes(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5)])
def test_a_later_tree_does_not_begin_an_earlier_one(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="beginning"):
        merkle.consistency_nodes(old, new)
    assert not merkle.is_consistent(old, b"", new, b"", [])
