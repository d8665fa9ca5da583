"""Layouts: packing and unpacking are inverse, padding is zero, positions are where the views are."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinncore import SettingError
from pinncore.layouts import PackedLayout
from pinncore.networks import Layers, flatten, layer_sizes, parameter_count, unflatten

from .helpers import CPU


@st.composite
def layouts(draw: st.DrawFn) -> PackedLayout:
    """One to five members of equal depth, inputs and outputs, any widths, padded to the widest or beyond."""
    inputs, outputs, depth = draw(st.integers(1, 4)), draw(st.integers(1, 2)), draw(st.integers(0, 4))
    hidden = st.lists(st.integers(1, 6), min_size=depth, max_size=depth)
    members = draw(st.lists(hidden.map(lambda sizes: (inputs, *sizes, outputs)), min_size=1, max_size=5))
    extra = draw(st.lists(st.integers(0, 3), min_size=depth, max_size=depth))
    widest = [max(sizes) for sizes in zip(*members, strict=True)]
    padded = (inputs, *(w + e for w, e in zip(widest[1:-1], extra, strict=True)), outputs)
    return PackedLayout(tuple(members), draw(st.sampled_from([(), padded])))


def numbered(layout: PackedLayout) -> list[np.ndarray]:
    """Parameters that are all different and none of them zero."""
    return [np.arange(parameter_count(layers)) + 1.0 + 1000 * member for member, layers in enumerate(layout.members)]


@given(layouts())
def test_pack_and_unpack_are_inverse(layout: PackedLayout) -> None:
    flats = numbered(layout)
    packed = layout.pack(flats, dtype=torch.float64, device=CPU)
    assert packed.shape == (len(layout.members), layout.size)
    for member, flat in enumerate(flats):
        assert np.array_equal(layout.unpack(packed[member], member), flat)
        outside = np.setdiff1d(np.arange(layout.size), layout.positions(member))
        assert len(outside) == layout.size - len(flat)
        assert not packed[member, outside].any()


@given(layouts())
def test_views_show_each_member_in_the_upper_left(layout: PackedLayout) -> None:
    flats = numbered(layout)
    packed = layout.pack(flats, dtype=torch.float64, device=CPU)
    views = layout.views(packed)
    for member, (flat, layers) in enumerate(zip(flats, layout.members, strict=True)):
        for (w, b), (own_w, own_b) in zip(views, unflatten(flat, layers), strict=True):
            rows, columns = own_w.shape
            assert np.array_equal(w[member, :rows, :columns], own_w)
            assert np.array_equal(b[member, :columns], own_b)
            assert w[member].count_nonzero() == own_w.size
            assert b[member].count_nonzero() == own_b.size
    views[0][0].zero_()  # views, not copies
    assert not packed[:, : layout.padded[0] * layout.padded[1]].any()


@given(layouts(), st.randoms())
def test_keep_leaves_members_where_they_were(layout: PackedLayout, random: Random) -> None:
    rows = random.sample(range(len(layout.members)), random.randint(1, len(layout.members)))
    kept = layout.keep(rows)
    assert (kept.size, kept.padded) == (layout.size, layout.padded)
    for place, row in enumerate(rows):
        assert np.array_equal(kept.positions(place), layout.positions(row))


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple))
def test_flatten_and_unflatten_are_inverse(layers: Layers) -> None:
    flat = np.arange(float(parameter_count(layers)))
    weights = unflatten(flat, layers)
    assert [w.shape for w, _ in weights] == list(itertools.pairwise(layers))
    assert np.array_equal(flatten(weights), flat)


def test_published_sizes() -> None:
    """8x8 and 16x16 are eight and sixteen hidden layers."""
    assert parameter_count(layer_sizes(4, width=8, depth=8)) == 553
    assert parameter_count(layer_sizes(4, width=16, depth=16)) == 4177


@pytest.mark.parametrize(
    ("members", "padded"),
    [
        (((2, 4, 1), (2, 4, 4, 1)), ()),
        (((2, 4, 1), (4, 4, 1)), ()),
        (((2, 4, 1), (2, 4, 2)), ()),
        (((2, 4, 1),), (2, 3, 1)),
        (((2, 4, 1),), (2, 4, 4, 1)),
        (((2, 4, 1),), (3, 4, 1)),
        (((2, 4, 1),), (2, 4, 2)),
    ],
)
def test_what_cannot_be_packed_is_refused(members: tuple[Layers, ...], padded: Layers) -> None:
    with pytest.raises(SettingError):
        PackedLayout(members, padded)
