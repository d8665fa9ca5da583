"""A job is checked once, where it is made, and survives its journey as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import Job, JobError, JobState, Resources

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    argv=st.lists(words, min_size=1, max_size=4),
    environment=st.dictionaries(names, words, max_size=3),
    timeout_min=st.none() | st.floats(min_value=1e-3, max_value=1e6),
    cwd=st.none() | st.just(Path("/somewhere else")),
)
def test_json_round_trip(
    argv: list[str], environment: dict[str, str], timeout_min: float | None, cwd: Path | None
) -> None:
    job = Job(argv=tuple(argv), environment=environment, resources=Resources(timeout_min=timeout_min), cwd=cwd)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize("argv", [(), "ls -l", ("ls", 1), ("a\0b",)])
def test_argv_is_words(argv: tuple[str, ...]) -> None:
    with pytest.raises(JobError, match="argv"):
        Job(argv=argv)


@pytest.mark.parametrize("environment", [{"": "x"}, {"A=B": "x"}, {"A": 1}, {"A": "\0"}])
def test_environment_is_text(environment: dict[str, str]) -> None:
    with pytest.raises(JobError, match="environment"):
        Job(argv=("ls",), environment=environment)


@pytest.mark.parametrize(
    "resources",
    [{"cpus": 0}, {"cpus": 1.5}, {"cpus": True}, {"gpus": -1}, {"memory_gb": 0.0}, {"timeout_min": float("nan")}],
)
def test_resources_name_what_is_wrong(resources: dict[str, float]) -> None:
    with pytest.raises(JobError, match=next(iter(resources))):
        Resources(**resources)  # type: ignore[arg-type]


def test_job_does_not_change_under_its_holder() -> None:
    environment = {"A": "1"}
    job = Job(argv=("ls",), environment=environment)
    environment["A"] = "2"
    assert job.environment == {"A": "1"}
    with pytest.raises(TypeError):
        job.environment["A"] = "3"  # type: ignore[index]


def test_final_states() -> None:
    assert [state.value for state in JobState if not state.finished] == ["pending", "running", "unknown"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd"])
def test_files_have_plain_names(name: str) -> None:
    with pytest.raises(JobError, match="files must have plain names"):
        Job(argv=("ls",), files={name: b""})


def test_files_and_a_folder_to_start_in_exclude_each_other() -> None:
    with pytest.raises(JobError, match="cwd must be left out"):
        Job(argv=("ls",), files={"a": b""}, cwd=Path("/"))
