"""Initial weights: each law against its formula, one network a seed, files checked for their shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pinncore import SettingError, WeightsError
from pinncore.initialisation import SOURCES, check_init, initial_parameters
from pinncore.networks import Layers, Weights, flatten, parameter_count, unflatten

LAYERS: Layers = (4, 300, 200, 1)
SAMPLES = 60_000  # weights of the middle layer


def middle(init: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of the 300 x 200 layer."""
    return unflatten(initial_parameters(init, LAYERS, seed=seed), LAYERS)[1]


# Kolmogorov-Smirnov p-values are uniform under the right law; 1e-3 passes for these seeds and fails a wrong law,
# whose p-value over 60,000 weights is below 1e-100 even where its deviation is 5 % off.
SUSPICIOUS = 1e-3


@pytest.mark.parametrize(
    ("init", "law"),
    [
        ("torch", stats.uniform(-1 / np.sqrt(300), 2 / np.sqrt(300))),
        ("keras", stats.uniform(-np.sqrt(6 / 500), 2 * np.sqrt(6 / 500))),
        ("tf1", stats.truncnorm(-2, 2, scale=np.sqrt(2 / 500))),
        ("glorot_normal", stats.norm(scale=np.sqrt(2 / 500))),
        ("he", stats.norm(scale=np.sqrt(2 / 300))),
        ("he_uniform", stats.uniform(-np.sqrt(6 / 300), 2 * np.sqrt(6 / 300))),
        ("lecun_normal", stats.norm(scale=np.sqrt(1 / 300))),
    ],
)
def test_weights_follow_their_law(init: str, law: stats.rv_continuous) -> None:
    w, _ = middle(init)
    low, high = law.support()
    if np.isfinite(high):
        assert low <= w.min() < 0.999 * low
        assert 0.999 * high < w.max() <= high
    assert stats.kstest(w.reshape(-1), law.cdf).pvalue > SUSPICIOUS
    deviation_error = law.std() / np.sqrt(2 * SAMPLES)  # of a sample deviation, at most: these laws have light tails
    assert w.std() == pytest.approx(law.std(), abs=4 * deviation_error)
    assert w.mean() == pytest.approx(0, abs=4 * law.std() / np.sqrt(SAMPLES))


def test_biases() -> None:
    """torch draws them within 1/sqrt(fan_in), the others start from zero."""
    _, b = middle("torch")
    assert stats.kstest(b, stats.uniform(-1 / np.sqrt(300), 2 / np.sqrt(300)).cdf).pvalue > SUSPICIOUS
    assert not any(middle(init)[1].any() for init in SOURCES.keys() - {"torch"})


@pytest.mark.parametrize("init", sorted(SOURCES))
def test_a_seed_is_a_network(init: str) -> None:
    first = initial_parameters(init, (2, 5, 1), seed=7)
    assert np.array_equal(first, initial_parameters(init, (2, 5, 1), seed=7))
    assert not np.array_equal(first, initial_parameters(init, (2, 5, 1), seed=8))


def test_a_seed_is_the_same_network_on_every_machine() -> None:
    """Recorded: NumPy may change a generator's stream between versions, and then this says so."""
    assert initial_parameters("torch", (2, 1, 1), seed=3)[:2].tolist() == pytest.approx(
        [-0.5859805674060738, -0.3722061510459], rel=1e-14
    )


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"must be one of torch, keras, tf1, glorot_normal, .* or file:PATH, got 'glorot'"
    ):
        check_init("glorot", (2, 4, 1))
    check_init("tf1", (2, 4, 1))


def save_weights(path: Path, weights: Weights, *, group: str = "", rows: bool = False) -> Path:
    """An .npz in the layout users have; `rows` writes biases as [1, out]."""
    arrays = {}
    for level, (w, b) in enumerate(weights, start=1):
        arrays[f"{group}W{level}"], arrays[f"{group}b{level}"] = w, b[None] if rows else b
    np.savez(path, **arrays)
    return path


sizes = st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple)


@given(layers=sizes, seed=st.integers(0, 2**32), rows=st.booleans(), group=st.sampled_from(["", "epoch0/", "a/b/"]))
def test_a_file_gives_its_weights(
    tmp_path_factory: pytest.TempPathFactory, layers: Layers, seed: int, rows: bool, group: str
) -> None:
    flat = np.random.default_rng(seed).standard_normal(parameter_count(layers))
    weights = unflatten(flat, layers)
    assert np.array_equal(flatten(weights), flat)
    path = save_weights(tmp_path_factory.mktemp("weights") / "w.npz", weights, group=group, rows=rows)
    source = f"file:{path}" + (f"#{group[:-1]}" if group else "")
    check_init(source, layers)
    assert np.array_equal(initial_parameters(source, layers, seed=seed), flat)


def test_other_arrays_in_a_file_do_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", W1=np.ones((2, 1)), b1=np.zeros(1), name=np.array("a run"), grad_W1=np.ones(7))
    assert initial_parameters(f"file:{tmp_path / 'w.npz'}", (2, 1), seed=0).tolist() == [1, 1, 0]


def refused(source: Path | str, layers: Layers, *fragments: str) -> None:
    with pytest.raises(WeightsError) as caught:
        check_init(f"file:{source}", layers)
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    layers = (2, 4, 4, 1)
    weights = unflatten(initial_parameters("torch", layers, seed=0), layers)
    path = save_weights(tmp_path / "w.npz", weights)
    check_init(f"file:{path}", layers)
    refused(path, (2, 5, 5, 1), "W1", "has shape (2, 4)", "2-5-5-1 needs (2, 5)")
    refused(path, (4, 4, 4, 1), "has shape (2, 4)", "4-4-4-1 needs (4, 4)")
    refused(path, (2, 4, 4, 4, 1), "W3", "has shape (4, 1)")
    refused(path, (2, 4, 4), "more layers than the network 2-4-4")
    refused(f"{path}#epoch9", layers, "no array W1", "needs W1, b1 to W3, b3")
    refused(tmp_path / "none.npz", layers, "none.npz does not exist")
    weights[1][1][2] = np.nan
    refused(save_weights(tmp_path / "nan.npz", weights), layers, "b2", "not finite")
    transposed = [(w.T, b) for w, b in weights]
    refused(save_weights(tmp_path / "t.npz", transposed), layers, "has shape (4, 2)")


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    whole = save_weights(tmp_path / "w.npz", [(np.ones((2, 1)), np.zeros(1))]).read_bytes()
    contents = {"torn.npz": whole[:-80], "empty.npz": b"", "text.npz": b"W1: 1 2 3", "zip.npz": b"PK\x03\x04no"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, (2, 1), name, "not an .npz of arrays")
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "text_inside.npz", W1=np.array([["a"], ["b"]]), b1=np.zeros(1))
    np.savez(tmp_path / "objects.npz", W1=np.array([{}, None], dtype=object), b1=np.zeros(1))
    for name in ("array.npy", "text_inside.npz", "objects.npz"):
        refused(tmp_path / name, (2, 1), name, "not an .npz of arrays")
    refused(tmp_path, (2, 1), "it is a folder, not a file")
