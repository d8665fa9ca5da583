"""The files sent with a submitted study: a study is the same wherever it was submitted from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sweeps.errors import SpecError
from sweeps.jobs.bundle import INPUTS, bundle, unpack
from sweeps.spec.identity import identity_sha256
from sweeps.spec.parse import parse_spec
from sweeps.spec.study_spec import StudySpec
from sweeps.study.loading import load_spec
from sweeps.study.problems import load_problem

from ..small import write_study


def study_with_files(folder: Path) -> StudySpec:
    """Write a study of three tables and a file of initial weights, used in the space and in a condition."""
    file = write_study(folder)
    np.savez(folder / "w.npz", W1=np.ones((2, 4)), b1=np.zeros((1, 4)), W2=np.ones((4, 1)), b2=np.zeros((1, 1)))
    return load_spec(
        file,
        [
            "space.width={choice: [4]}",
            "train.depth=1",
            f"space.init={{choice: [torch, 'file:{folder}/w.npz']}}",
            f"space.scale_factor={{choice: [1, 3], when: {{init: ['file:{folder}/w.npz']}}}}",
        ],
    )


def test_where_files_are_shared_only_the_study_file_is_sent(tmp_path: Path) -> None:
    spec = study_with_files(tmp_path)
    files = bundle(spec, "/r", shares_files=True)
    assert list(files) == ["study.yaml"]
    assert files["study.yaml"].decode() == spec.to_yaml()


def test_files_are_sent_and_found_again(tmp_path: Path) -> None:
    spec, root, there = study_with_files(tmp_path / "here"), tmp_path / "root", tmp_path / "there"
    files = bundle(spec, str(root), shares_files=False)
    assert len(files) == 1 + 3 + 1
    there.mkdir()
    for name, content in files.items():
        (there / name).write_bytes(content)
    shutil.rmtree(tmp_path / "here")
    unpack(there, root)
    arrived = load_spec(there / "study.yaml")
    assert arrived.problem["data"]["gauss_points"].startswith(str(root / INPUTS))
    file = arrived.space["init"].arguments()[1]
    assert file.startswith(f"file:{root / INPUTS}/") and file.endswith(".npz")
    assert tuple(arrived.space["scale_factor"].when["init"]) == (file,)


def test_submitted_again_from_elsewhere_it_is_the_same_study(tmp_path: Path) -> None:
    identities = []
    for folder in ("one", "two"):
        spec = study_with_files(tmp_path / folder)
        text = bundle(spec, "/r", shares_files=False)["study.yaml"].decode()
        identities.append(identity_sha256(parse_spec(text, base=tmp_path, load_problem=load_problem)))
    assert identities[0] == identities[1]


def test_a_file_that_is_there_already_stays(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "abc.csv").write_text("new")
    (job / "study.yaml").write_text("study: s\n")
    (tmp_path / INPUTS).mkdir()
    (tmp_path / INPUTS / "abc.csv").write_text("old")
    unpack(job, tmp_path)
    assert [path.name for path in (tmp_path / INPUTS).iterdir()] == ["abc.csv"]
    assert (tmp_path / INPUTS / "abc.csv").read_text() == "old"


def test_files_cannot_be_sent_to_an_object_store(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot be sent with the study to s3://bucket/runs") as raised:
        bundle(study_with_files(tmp_path), "s3://bucket/runs", shares_files=False)
    assert len({mistake.value for mistake in raised.value.mistakes}) == 4


def test_too_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.jobs.bundle._MOST_BYTES", 1000)
    with pytest.raises(SpecError, match="Put them where every machine can read them"):
        bundle(study_with_files(tmp_path), "/r", shares_files=False)
