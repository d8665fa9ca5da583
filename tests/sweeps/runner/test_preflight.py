"""Checks of every machine of a cluster: it sees the study, finds its lock held and has the same code."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from pinncore import sources
from sweeps.errors import StudyError
from sweeps.runner import preflight
from sweeps.runner.preflight import (
    PROOF,
    Expected,
    check_here,
    check_nodes,
    expected_here,
    report_node,
    versions,
)
from sweeps.storage.lock import StudyLock
from sweeps.study import provenance


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    study_dir = tmp_path / "small"
    study_dir.mkdir()
    (study_dir / "study.yaml").write_text("study: small\n")
    return study_dir


@pytest.fixture
def held(study_dir: Path) -> Iterator[StudyLock]:
    held = StudyLock(study_dir, driver_pid=os.getpid())
    yield held
    held.release()


def proofs(study_dir: Path) -> list[Path]:
    return list(study_dir.glob(f"{PROOF}*"))


def test_a_machine_that_has_everything(study_dir: Path, held: StudyLock) -> None:
    expected = expected_here(study_dir)
    assert expected == Expected(held.word, True, versions())
    report = report_node(str(study_dir), expected)
    assert report.proof and (study_dir / report.proof).read_text() == held.word
    assert report.problems == ()
    (study_dir / report.proof).unlink()
    check_here(study_dir, expected)
    assert proofs(study_dir) == [], "nothing is left behind"


def test_a_machine_that_does_not_see_the_folder(study_dir: Path, held: StudyLock, tmp_path: Path) -> None:
    expected = expected_here(study_dir)
    with pytest.raises(StudyError, match=r"does not see .*/elsewhere: mount one file system"):
        check_here(tmp_path / "elsewhere", expected)
    other = tmp_path / "copy"
    other.mkdir()
    StudyLock(other, driver_pid=os.getpid())
    with pytest.raises(StudyError, match=r"sees another folder at .*/copy: mount one file system"):
        check_here(other, expected)
    assert proofs(other) == []


def test_a_copy_of_the_folder_is_detected(study_dir: Path, held: StudyLock, tmp_path: Path) -> None:
    """A folder synced by a program has the note of the lock, but not the lock."""
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "lock").write_bytes((study_dir / "lock").read_bytes())
    with pytest.raises(StudyError, match="does not find the study's lock held"):
        check_here(copy, expected_here(study_dir))


def test_a_lock_is_not_asked_for_where_the_database_locks(study_dir: Path, tmp_path: Path) -> None:
    (study_dir / "study.yaml").write_text("study: small\nstate: postgresql://db/studies\n# end of the study file\n")
    StudyLock(study_dir, driver_pid=os.getpid())._file.close()  # the note stays, the lock does not
    expected = expected_here(study_dir)
    assert not expected.holds_lock
    check_here(study_dir, expected)
    with pytest.raises(StudyError, match="lock held"):
        check_here(study_dir, dataclasses.replace(expected, holds_lock=True))


def test_a_machine_that_cannot_write(study_dir: Path, held: StudyLock, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = expected_here(study_dir)

    def read_only(file: Path, text: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", read_only)
    with pytest.raises(StudyError, match=r"cannot write into .* \(Read-only file system\)"):
        check_here(study_dir, expected)


@pytest.mark.parametrize("name", ["sources", "python", "torch", "numpy"])
def test_other_versions_are_named(study_dir: Path, held: StudyLock, name: str) -> None:
    expected = expected_here(study_dir)
    other = dataclasses.replace(expected, versions={**expected.versions, name: "1.2.3"})
    with pytest.raises(StudyError, match=f"has {name} .*the driver has 1.2.3: install the same") as refusal:
        check_here(study_dir, other)
    assert str(refusal.value).count("install the same") == 1


def test_versions_are_those_that_are_imported() -> None:
    import numpy
    import torch

    assert versions()["numpy"] == numpy.__version__
    assert versions()["torch"] in (torch.__version__, torch.__version__.partition("+")[0])  # PyPI's names no GPU build


def test_the_digest_is_of_every_source_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in provenance.PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / "inner" / "code.py").write_text("one = 1\n")

    def digest() -> str:
        return str(sources.source_digest.__wrapped__(*provenance.PACKAGES))

    monkeypatch.setattr(
        sources.importlib.util,
        "find_spec",
        lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path / name)]),
    )
    before = digest()
    (tmp_path / "cluster" / "notes.txt").write_text("no code")
    assert digest() == before
    (tmp_path / "pinncore" / "inner" / "code.py").write_text("one = 2\n")
    changed = digest()
    (tmp_path / "sweeps" / "inner" / "code.py").rename(tmp_path / "sweeps" / "inner" / "coda.py")
    assert len({before, changed, digest()}) == 3


# ---- the cluster --------------------------------------------------------------------------------------------------


def node_id(number: int) -> str:
    """Return an id in the form of Ray's ids of nodes."""
    return f"{number + 1:056x}"


class FakeRay:
    """Fake cluster in this process; `answers` has for each other node a function that makes the result of its call."""

    def __init__(self, answers: Sequence[Callable[..., Any] | None]) -> None:
        self._answers = list(answers)
        self.options: list[dict[str, Any]] = []

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: node_id(0))

    def nodes(self) -> list[dict[str, Any]]:
        others = range(1, len(self._answers) + 1)
        return [
            {"NodeID": node_id(number), "Alive": True, "NodeManagerAddress": f"10.0.0.{number}"}
            for number in (0, *others)
        ] + [{"NodeID": node_id(98), "Alive": False, "NodeManagerAddress": "10.0.0.9"}]

    def remote(self, function: Callable[..., Any]) -> SimpleNamespace:
        def options(**values: Any) -> SimpleNamespace:
            self.options.append(values)
            number = len(self.options) - 1
            return SimpleNamespace(remote=lambda *arguments: (number, function, arguments))

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        assert num_returns == len(references) and timeout == preflight.TIMEOUT_S
        ready = [reference for reference in references if self._answers[reference[0]] is not None]
        return ready, [reference for reference in references if reference not in ready]

    def get(self, reference: tuple[int, Callable[..., Any], tuple[Any, ...]]) -> Any:
        number, function, arguments = reference
        answer = self._answers[number]
        assert answer is not None
        return answer(function, *arguments)


def honest(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def missing(function: Callable[..., Any], *arguments: Any) -> Any:
    raise ImportError("Traceback (most recent call last)\n  File\nModuleNotFoundError: No module named 'sweeps'")


def old(function: Callable[..., Any], *arguments: Any) -> Any:
    with mock.patch.object(preflight, "versions", return_value={**versions(), "torch": "2.4.0"}):
        return dataclasses.replace(function(*arguments), host="gpu-07")


def far(function: Callable[..., Any], *arguments: Any) -> Any:
    """Answer as a machine whose files land in another folder."""
    report = function(*arguments)
    (Path(arguments[0]) / report.proof).unlink()
    return report


def test_all_machines_that_cannot_train_are_named_together(study_dir: Path, held: StudyLock) -> None:
    ray = FakeRay([honest, missing, None, old, far, lambda *call: {"another": "form"}])
    with pytest.raises(StudyError) as refusal:
        check_nodes(ray, study_dir)
    first, *lines = str(refusal.value).splitlines()
    assert "not every machine" in first and str(study_dir) in first
    assert [line.split()[1] for line in lines] == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    assert "No module named 'sweeps'" in lines[0] and "install the same pinnsweep" in lines[0]
    assert "did not answer in 60 s" in lines[1]
    assert "(gpu-07) has torch 2.4.0, the driver has" in lines[2]
    assert "wrote a file that is not seen here" in lines[3]
    assert "install the same pinnsweep" in lines[4]
    assert proofs(study_dir) == []
    assert all(options["num_cpus"] == 0 for options in ray.options)
    nodes = [options["scheduling_strategy"].node_id for options in ray.options]
    assert nodes == [node_id(number) for number in range(1, 7)]


def test_a_cluster_of_one_machine_is_not_checked(study_dir: Path) -> None:
    ray = FakeRay([])
    check_nodes(ray, study_dir)
    assert ray.options == []


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_a_real_cluster(study_dir: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        held = StudyLock(study_dir, driver_pid=os.getpid())
        check_nodes(ray, study_dir)
        held._file.close()  # the note stays, the lock is gone
        with pytest.raises(StudyError, match=r"not every machine.*\nnode \S+ \(\S+\) does not find .* lock held"):
            check_nodes(ray, study_dir)
        assert proofs(study_dir) == []
    finally:
        ray.shutdown()
        cluster.shutdown()
