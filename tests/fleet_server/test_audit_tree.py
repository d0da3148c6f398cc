"""The Merkle tree against an independent implementation (pymerkle), and its proofs against tampering."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from fleet_server.audit.tree import (
    EMPTY_ROOT,
    Frontier,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_inclusion,
)

contents = st.lists(st.binary(max_size=20), min_size=1, max_size=70)


@given(contents)
def test_roots_are_those_of_pymerkle(entries: list[bytes]) -> None:
    oracle = InmemoryTree(algorithm="sha256")
    frontier = Frontier()
    for entry in entries:
        oracle.append_entry(entry)
        frontier.append(leaf_hash(entry))
        assert frontier.root() == oracle.get_root()
    assert frontier.size == len(entries)


@given(contents, st.data())
def test_proofs_prove_their_leaf_and_no_other(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, len(leaves) - 1))
    path, root = inclusion_proof(leaves, index), root_of(leaves)
    assert verify_inclusion(leaves[index], index, len(leaves), path, root)
    assert not verify_inclusion(leaf_hash(b"something else entirely"), index, len(leaves), path, root)
    assert not verify_inclusion(leaves[index], index, len(leaves), [*path, root], root)
    assert not verify_inclusion(leaves[index], len(leaves), len(leaves), path, root)


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT


def test_a_copy_grows_alone() -> None:
    frontier = Frontier()
    frontier.append(leaf_hash(b"a"))
    copy = frontier.copy()
    copy.append(leaf_hash(b"b"))
    assert (frontier.size, copy.size) == (1, 2)
    assert frontier.root() != copy.root()
