"""The profiles and commands of docs/clusters.md are ones that pinnsweep takes."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest

from cluster import BACKENDS
from sweeps.jobs.profiles import KINDS, all_profiles
from tests import ROOT
from tests.test_readme import check_command

TEXT = (ROOT / "docs" / "clusters.md").read_text()
BLOCKS = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n)+", TEXT, flags=re.MULTILINE)]
PROFILES = [block for block in BLOCKS if re.match(r"\w+:\n  kind:", block)]
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("pinnsweep ")]


def test_there_is_a_profile_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = set()
    for block in PROFILES:
        (tmp_path / "clusters.yaml").write_text(block)
        (profile,) = all_profiles().values()
        found.add(profile.kind)
    assert found == set(KINDS) - {"local"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_of_each_kind_is_explained(kind: str) -> None:
    section = TEXT if kind == "local" else TEXT.partition(f": `{kind}`\n")[2].partition("\n## ")[0]
    common = TEXT.partition("Every kind has")[2].partition("\nTwo places")[0]
    names = [field.name for field in dataclasses.fields(BACKENDS[kind].profile)]
    assert [name for name in names if f"`{name}`" not in section + common and f"  {name}:" not in section] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line: str) -> None:
    check_command(line)
