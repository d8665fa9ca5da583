"""Checkpoint folders: what is written is read back exactly; damaged, missing or foreign files are refused by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinncore import CheckpointError, MemberState, read_checkpoint, write_checkpoint

numbers = st.floats(allow_nan=False, width=64)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=8),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3),
    max_leaves=8,
)
tensors = st.builds(
    lambda values, dtype: torch.tensor(values, dtype=dtype),
    st.lists(numbers, max_size=5),
    st.sampled_from([torch.float32, torch.float64]),
)
names = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=5)
states = st.builds(
    MemberState,
    st.integers(0, 10**7),
    st.dictionaries(st.text(max_size=5), plain, max_size=3),
    st.dictionaries(names, tensors, max_size=3),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(states, max_size=4, unique_by=lambda state: state.label), st.dictionaries(st.text(max_size=5), plain))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, written: list[MemberState], values: dict[str, object]
) -> None:
    """Every bit of every number, in the order it was given."""
    folder = tmp_path_factory.mktemp("checkpoints") / "000001"
    write_checkpoint(folder, written, values=values)
    found, found_values = read_checkpoint(folder)
    assert found_values == values
    assert [(state.label, state.values) for state in found] == [(state.label, state.values) for state in written]
    for state, expected in zip(found, written, strict=True):
        assert set(state.tensors) == set(expected.tensors)
        for name, tensor in expected.tensors.items():
            assert state.tensors[name].dtype == tensor.dtype
            assert state.tensors[name].numpy().tobytes() == tensor.numpy().tobytes(), name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of members 3 and 12."""
    written = [MemberState(label, {"epoch": label}, {"x": torch.arange(50.0)}) for label in (3, 12)]
    write_checkpoint(tmp_path / "000007", written)
    return tmp_path / "000007"


def test_a_folder_appears_whole(folder: Path) -> None:
    """What a crash left beside it is swept away by the next writing, and nothing else stands there."""
    beside = folder.with_name(".000008.new")
    beside.mkdir()
    (beside / "half").write_text("")
    write_checkpoint(folder.with_name("000008"), [])
    assert sorted(path.name for path in folder.parent.iterdir()) == ["000007", "000008"]
    assert [path.name for path in folder.with_name("000008").iterdir()] == ["pack.json"]
    assert read_checkpoint(folder.with_name("000008")) == ([], {})


def edit(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """A change of a JSON file."""

    def apply(file: Path) -> None:
        header = json.loads(file.read_text())
        change(header)
        file.write_text(json.dumps(header))

    return apply


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage", "fragment"),
    [
        ("pack.json", Path.unlink, "cannot be read"),
        ("pack.json", cut, "cannot be read"),
        ("pack.json", edit(lambda header: header.update(version=1)), "is of version 1, but this code reads version 4"),
        ("pack.json", edit(lambda header: header.pop("members")), "lacks members"),
        ("pack.json", lambda file: file.write_text("[1]"), "is of version None"),
        ("member-000012.json", Path.unlink, "cannot be read"),
        ("member-000012.json", lambda file: file.write_bytes(b"\xff\x00"), "cannot be read"),
        ("member-000012.json", edit(lambda header: header.update(version="1")), "is of version 1"),
        ("member-000012.json", edit(lambda header: header.pop("sha256")), "lacks sha256"),
        ("member-000003.safetensors", Path.unlink, "cannot be read"),
        ("member-000003.safetensors", cut, "is damaged: its hash differs"),
        ("member-000003.safetensors", flip, "is damaged: its hash differs"),
    ],
)
def test_a_damaged_folder_is_refused_by_the_name_of_its_file(
    folder: Path, name: str, damage: Callable[[Path], object], fragment: str
) -> None:
    read_checkpoint(folder)
    damage(folder / name)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    assert str(folder / name) in str(caught.value)
    assert fragment in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/pack\.json cannot be read.*remove .*nowhere to train"):
        read_checkpoint(tmp_path / "nowhere")


def test_a_payload_that_is_no_safetensors_is_refused(folder: Path) -> None:
    """Even where its hash is the recorded one."""
    payload = b"nothing of the kind"
    (folder / "member-000003.safetensors").write_bytes(payload)
    rehash = edit(lambda header: header.update(sha256=hashlib.sha256(payload).hexdigest()))
    rehash(folder / "member-000003.json")
    with pytest.raises(CheckpointError, match=r"member-000003\.safetensors is not a safetensors file"):
        read_checkpoint(folder)
