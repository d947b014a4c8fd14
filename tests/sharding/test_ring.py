"""A ring of chips ends with what the simulated mesh computes, and sends what it counts."""

import numpy as np
import pytest

from tfguide.sharding import Mesh, ring

AXES = (0, 1, 2)
CHIPS = [2, 3, 4, 7]


def arrays(p):
    """An array of p parts of 3 x 5 for each of p chips."""
    return np.random.default_rng(p).integers(-99, 99, size=(p, p, 3, 5)).astype(float)


def joined(pieces):
    return np.concatenate([piece.values for piece in pieces])


def on_mesh(p, values):
    mesh = Mesh((1, 1, p))
    return mesh, dict(zip(mesh.chips, values, strict=True))


@pytest.mark.parametrize("p", CHIPS)
def test_all_gather(p):
    parts = arrays(p)[0]
    mesh, held = on_mesh(p, parts)
    whole = mesh.all_gather(held, AXES, 0, "step")
    rounds = list(ring.all_gather(parts))
    for chip, pieces in zip(mesh.chips, rounds[-1].held, strict=True):
        assert [piece.part for piece in pieces] == list(range(p))
        assert (joined(pieces) == whole[chip]).all()
    check_counts(rounds, mesh, p, p - 1)


@pytest.mark.parametrize("p", CHIPS)
def test_reduce_scatter(p):
    summands = arrays(p)
    mesh, held = on_mesh(p, [np.concatenate(parts) for parts in summands])
    shares = mesh.reduce_scatter(held, AXES, 0, "step")
    rounds = list(ring.reduce_scatter(summands))
    for i, chip in enumerate(mesh.chips):
        [piece] = rounds[-1].held[i]
        assert piece.part == i and piece.origins == set(range(p))
        assert (piece.values == shares[chip]).all()  # whole numbers: no order of adding differs
    check_counts(rounds, mesh, p, p - 1)


@pytest.mark.parametrize("p", CHIPS)
def test_all_reduce(p):
    summands = arrays(p)
    mesh, held = on_mesh(p, [np.concatenate(parts) for parts in summands])
    whole = mesh.all_gather(mesh.reduce_scatter(held, AXES, 0, "step"), AXES, 0, "step")
    rounds = list(ring.all_reduce(summands))
    for chip, pieces in zip(mesh.chips, rounds[-1].held, strict=True):
        assert (joined(pieces) == whole[chip]).all() and (joined(pieces) == np.concatenate(summands.sum(0))).all()
        assert all(piece.origins == set(range(p)) for piece in pieces)
    check_counts(rounds, mesh, p, 2 * (p - 1))


@pytest.mark.parametrize("p", CHIPS)
def test_all_to_all(p):
    own = arrays(p)
    mesh, held = on_mesh(p, [np.concatenate(parts) for parts in own])
    moved = mesh.all_to_all(held, AXES, 0, 1, "step")  # divided along the rows, joined along the columns
    rounds = list(ring.all_to_all(own))
    for i, chip in enumerate(mesh.chips):
        pieces = rounds[-1].held[i]
        assert [(piece.part, *piece.origins) for piece in pieces] == [(i, k) for k in range(p)]
        assert (np.concatenate([piece.values for piece in pieces], axis=1) == moved[chip]).all()
    check_counts(rounds, mesh, p, p - 1)


def check_counts(rounds, mesh, p, n_rounds):
    """Every chip sends one piece of the whole in each round; all of it together is what the mesh counts."""
    assert len(rounds) == n_rounds + 1 and rounds[0].moves == ()
    for one in rounds[1:]:
        assert sorted(move.source for move in one.moves) == sorted(move.target for move in one.moves) == list(range(p))
    assert mesh.sent["step"] == pytest.approx(ring.sent(rounds), rel=1e-12)
    assert {ring.sent(rounds, chip) for chip in range(p)} == {ring.sent(rounds)}
    assert ring.sent(rounds) == n_rounds * 15


@pytest.mark.parametrize("collective", [ring.reduce_scatter, ring.all_reduce])
def test_nothing_is_counted_twice_in_a_sum(collective):
    for one in collective(arrays(5)):
        for piece in (piece for pieces in one.held for piece in pieces):
            assert (piece.values == sum(arrays(5)[i][piece.part] for i in piece.origins)).all()


def test_a_round_that_was_shown_does_not_change():
    rounds = list(ring.all_to_all(arrays(3)))
    assert [len(pieces) for one in rounds for pieces in one.held] == [3] * 9
    assert [piece.part for piece in rounds[0].held[1]] == [0, 1, 2]


def test_what_a_ring_refuses():
    with pytest.raises(ValueError, match="two chips or more, got 1"):
        list(ring.all_gather([np.ones(2)]))
    with pytest.raises(ValueError, match="an array of 3 parts on each of as many chips, got 2"):
        list(ring.all_to_all([[np.ones(1)] * 2] * 3))
