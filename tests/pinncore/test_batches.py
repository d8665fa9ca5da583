"""Mini-batches and rounds of points, from seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinncore.batches import picks, round_of


@given(count=st.integers(2, 300), batch=st.integers(1, 299), seed=st.integers(0, 2**32), number=st.integers(0, 50))
def test_a_pass_goes_through_all_points(count: int, batch: int, seed: int, number: int) -> None:
    epochs = -(-count // batch)
    chosen = [picks([count], batch, seed=seed, epoch=number * epochs + i)[0] for i in range(epochs)]
    if batch >= count:
        assert chosen == [None]
        return
    indices = np.concatenate(chosen)
    assert all(len(pick) == len(set(pick.tolist())) == batch for pick in chosen)
    assert sorted(indices[:count].tolist()) == list(range(count))
    assert np.array_equal(indices[count:], indices[: len(indices) - count])  # the last is filled up with the first


def test_only_sets_of_more_points_are_batched() -> None:
    inside, walls, start = picks([100, 10, 11], 10, seed=0, epoch=3)
    assert walls is None and inside is not None and start is not None
    assert (len(inside), len(start), inside.dtype) == (10, 10, np.int64)


def test_picks_differ_by_seed_pass_and_group_and_by_nothing_else() -> None:
    def chosen(**changes: int) -> list[int]:
        arguments = {"seed": 3, "epoch": 4, "group": 1} | changes
        group = arguments.pop("group")
        return picks([50, 50, 50], 10, **arguments)[group].tolist()

    assert chosen() == chosen()
    others = [chosen(seed=4), chosen(epoch=9), chosen(epoch=5), chosen(group=0)]
    assert all(other != chosen() for other in others)


@pytest.mark.parametrize(
    ("epoch", "epochs", "every", "number"),
    [
        (0, 100, None, 0),
        (99, 100, None, 0),
        (0, 100, 10, 0),
        (9, 100, 10, 0),
        (10, 100, 10, 1),
        (99, 100, 10, 9),
        (100, 100, 10, 9),  # the second stage keeps the last points
        (101, 101, 10, 10),
        (3, 100, 1, 3),
        (0, 0, 10, 0),
    ],
)
def test_rounds(epoch: int, epochs: int, every: int | None, number: int) -> None:
    assert round_of(epoch, epochs=epochs, every=every) == number
