"""docs/clusters.md: a profile of each kind of place, with each setting explained."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from cluster import BACKENDS
from sweeps.jobs.profiles import KINDS

from .pages import DOCS, blocks

PAGE = DOCS / "clusters.md"
TEXT = PAGE.read_text()


def test_there_is_a_profile_of_each_kind() -> None:
    contents = [yaml.safe_load(block.text) for block in blocks(PAGE, "yaml")]
    found = {section["kind"] for content in contents for section in content.values() if "kind" in section}
    assert found == set(KINDS) - {"local"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_setting_of_each_kind_is_explained(kind: str) -> None:
    section = TEXT if kind == "local" else TEXT.partition(f": `{kind}`\n")[2].partition("\n## ")[0]
    common = TEXT.partition("Every kind has")[2].partition("\nTwo places")[0]
    names = [field.name for field in dataclasses.fields(BACKENDS[kind].profile)]
    assert [name for name in names if f"`{name}`" not in section + common and f"  {name}:" not in section] == []
