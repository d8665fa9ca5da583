"""Profiles of `clusters.yaml`: where the file is found, and its mistakes reported all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import LocalExecutor, LocalProfile, RayProfile, executor_of
from sweeps.errors import SpecError
from sweeps.jobs.profiles import KINDS, all_profiles, find_profile
from tests.special_files import REASONS, at_once

LAB = '{kind: ray, address: "http://10.0.0.5:8265", root: /nfs/runs'


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's file and that of the current folder; neither exists yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "pinnsweep").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "config" / "pinnsweep" / "clusters.yaml", Path("clusters.yaml")


def mistakes(text: str, file: Path) -> list[str]:
    """Return the lines of the error for a file of profiles."""
    file.write_text(text)
    with pytest.raises(SpecError) as raised:
        all_profiles()
    return str(raised.value).splitlines()


def test_a_profile_is_read_whole(files: tuple[Path, Path]) -> None:
    files[1].write_text(f"lab: {LAB}, command: [uv, run, pinnsweep], environment: {{A: '1'}}, stop_grace_s: 5}}\n")
    profile = find_profile("lab")
    assert isinstance(profile, RayProfile)
    assert (profile.address, profile.root, profile.stop_grace_s) == ("http://10.0.0.5:8265", "/nfs/runs", 5)
    assert (profile.command, dict(profile.environment)) == (("uv", "run", "pinnsweep"), {"A": "1"})


def test_the_file_of_the_current_folder_counts_first(files: tuple[Path, Path]) -> None:
    for file, root in zip(files, ("/of/the/user", "/of/the/project"), strict=True):
        file.write_text(f"here: {{kind: local, root: {root}}}\n")
    with files[0].open("a") as user:
        user.write("mine: {kind: local, root: /mine}\n")
    assert {name: profile.root for name, profile in all_profiles().items()} == {
        "here": "/of/the/project",
        "mine": "/mine",
    }


def test_without_any_file_there_are_none(files: tuple[Path, Path]) -> None:
    assert all_profiles() == {}
    with pytest.raises(SpecError, match=r"no profile of this name.* in .*clusters\.yaml or clusters\.yaml"):
        find_profile("lab")


def test_a_configuration_that_cannot_be_read_names_the_variable(files: tuple[Path, Path]) -> None:
    """As that of a home that belongs to another user."""
    files[0].mkdir()
    with pytest.raises(SpecError, match=r"cannot be read .*set XDG_CONFIG_HOME to another folder\.$"):
        all_profiles()


def test_all_mistakes_are_reported_at_once(files: tuple[Path, Path]) -> None:
    text = f"""\
one: {LAB}, stop_grace: 3, carry_code: "yes"}}
two: {{kind: rya}}
three: {{kind: ray, address: "http://10.0.0.5:8265"}}
four: {{kind: ray, address: "10.0.0.5:8265", root: /r}}
five: {LAB}, command: pinnsweep}}
six: {LAB}, stop_grace_s: 0}}
seven: 7
local: {{kind: local, root: /r}}
"9x": {{kind: local, root: /r}}
"""
    assert mistakes(text, files[1]) == [
        "clusters.yaml: 9x: must start with a letter and have at most 40 letters, digits, '_' and '-'.",
        "clusters.yaml: local: this name is reserved by pinnsweep. Rename the profile.",
    ]
    rest = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("local", '"9x')))
    assert mistakes(rest, files[1]) == [
        "clusters.yaml: one.stop_grace: is an unknown key, got 3. Did you mean stop_grace_s?",
        'clusters.yaml: one.carry_code: must be true or false, got "yes".',
        f'clusters.yaml: two.kind: must be one of {", ".join(KINDS)}, got "rya". Did you mean ray?',
        "clusters.yaml: three.root: must be given.",
        "clusters.yaml: four: address must be that of the cluster's dashboard, such as http://10.0.0.5:8265, got "
        "'10.0.0.5:8265'.",
        'clusters.yaml: five.command: must be a list, got "pinnsweep".',
        "clusters.yaml: six.stop_grace_s: must be at least 1, got 0.",
        f"clusters.yaml: seven: must be a mapping of keys to values, got 7. Start with kind: {' or '.join(KINDS)}.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"lab: [", "not valid YAML"), (b"\xff\xfe\x00", "is not text in UTF-8"), (b"- lab\n", "must be a mapping")],
)
def test_an_unreadable_file_is_named(files: tuple[Path, Path], content: bytes, message: str) -> None:
    files[0].write_bytes(content)
    with pytest.raises(SpecError, match=message) as raised:
        find_profile("lab")
    assert str(files[0]) in str(raised.value)


def test_a_file_of_profiles_is_a_bounded_regular_file(
    files: tuple[Path, Path], special_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, special in special_files.items():
        files[0].unlink(missing_ok=True)
        files[0].symlink_to(special)
        with pytest.raises(SpecError, match="cannot be read") as raised:
            at_once(all_profiles)
        assert REASONS[kind] in str(raised.value)
    files[0].unlink()
    files[0].write_text("".join(f"lab{i}: 1\n" for i in range(1_001)))
    with pytest.raises(SpecError, match="a mapping may have 1,000 keys"):
        all_profiles()


def test_a_mistake_in_one_profile_does_not_affect_another(files: tuple[Path, Path]) -> None:
    files[1].write_text(f"bad: {{kind: ray}}\nlab: {LAB}}}\n")
    assert find_profile("lab").root == "/nfs/runs"


def test_a_profile_of_this_machine_has_a_root_of_its_own(tmp_path: Path) -> None:
    executor = executor_of(LocalProfile(root=str(tmp_path)), "here")
    assert isinstance(executor, LocalExecutor)
    assert list(executor.list()) == []


def test_no_mistake_shows_a_secret(files: tuple[Path, Path]) -> None:
    told = mistakes(f"lab: {LAB}, environment: {{DB_PASS: 4711, COUNT: 4}}, set_up: export DB_PASS=4711}}\n", files[1])
    assert [line for line in told if "DB_PASS" in line] and not [line for line in told if "4711" in line]
    assert [line for line in told if "environment.COUNT: must be text, got 4." in line]
