"""The Dockerfile, as far as it can be looked at without building: what it copies, installs and starts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest

from tests import ROOT
from tests.cluster.waiting import WAIT_S

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VARIABLE = re.compile(r"\$\{([A-Za-z_]+)")


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile and what follows it, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    return [
        (word, rest.strip())
        for word, _, rest in (
            line.partition(" ") for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line
        )
    ]


def all_of(name: str) -> list[str]:
    return [rest for word, rest in instructions() if word == name]


def copied() -> list[str]:
    return [source for rest in all_of("COPY") for source in shlex.split(rest)[:-1]]


def is_sent(path: str) -> bool:
    """Whether the builder gets this file: the last line of .dockerignore that means it or a folder of it counts."""
    sent = True
    places = [str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        names = [pattern, pattern.removeprefix("**/")]
        if any(fnmatch(place, name) for place in places if place != "." for name in names):
            sent = line.startswith("!")
    return sent


def test_what_is_copied_is_there_and_sent() -> None:
    for source in copied():
        assert (ROOT / source).exists()
        assert is_sent(source)
    assert is_sent("cluster/job.py")


@pytest.mark.parametrize(
    "path", [".git/config", ".env", "clusters.yaml", "runs/widths/study.db", "tests/test_dockerfile.py"]
)
def test_nothing_else_is_sent(path: str) -> None:
    assert not is_sent(path)


def test_everything_that_the_package_is_built_of_is_copied() -> None:
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert needed | set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(copied())


def test_python_is_one_that_pinnsweep_takes() -> None:
    (python,) = (rest.partition("=")[2] for rest in all_of("ARG") if rest.startswith("PYTHON="))
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert [int(part) for part in python.split(".")] >= [int(part) for part in least.split(".")]


def test_torch_is_for_the_cpu_unless_asked_for() -> None:
    assert "TORCH=cpu" in all_of("ARG")
    (index,) = {found for rest in all_of("RUN") for found in re.findall(r"--index-url (\S+)", rest)}
    assert index == "https://download.pytorch.org/whl/${TORCH}"


def test_every_variable_is_an_argument_declared_before() -> None:
    declared = set[str]()
    for word, rest in instructions():
        assert set(VARIABLE.findall(rest)) <= declared, rest
        declared |= {rest.partition("=")[0]} if word == "ARG" else set()


def test_shell_commands_can_be_parsed() -> None:
    for rest in all_of("RUN"):
        subprocess.run(["sh", "-n", "-c", rest], timeout=WAIT_S, check=True)


@pytest.mark.parametrize(("release", "asked"), [("", "ray[default,tune]"), ("2.60.0", "ray[default,tune]==2.60.0")])
def test_release_of_ray_can_be_chosen(release: str, asked: str) -> None:
    (install,) = (rest for rest in all_of("RUN") if "ray[" in rest)
    script = f'pip() {{ printf "%s\\n" "$@"; }}; {install}'
    words = ["sh", "-c", script]
    told = subprocess.run(words, env={"RAY": release}, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert told.stdout.splitlines()[-1] == asked


def test_tools_that_come_from_outside_are_installed() -> None:
    (packages,) = (rest for rest in all_of("RUN") if "apt-get install" in rest)
    assert {"wget", "rsync", "g++"} <= set(packages.split())


def test_commands_run_as_a_user_and_a_shell_can_be_started() -> None:
    assert all_of("USER") == ["pinnsweep"]
    assert all_of("WORKDIR") == ["/home/pinnsweep"]
    assert "HOME=/home/pinnsweep" in " ".join(all_of("ENV")).split()  # or Ray's launcher mounts its files in /root
    assert all_of("ENTRYPOINT") == []
    (command,) = all_of("CMD")
    assert json.loads(command)[0] in PROJECT["project"]["scripts"]
