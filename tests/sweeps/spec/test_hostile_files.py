"""Hostile study files: small texts that stand for much, and long ones, end at once with the limit and the place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.spec import yaml_text
from sweeps.spec.outline import outline
from sweeps.study.loading import load_spec, load_text
from tests.special_files import REASONS, at_once

SECONDS = 20.0  # of the processor; the slowest takes four
VALUES, CHARACTERS = "there may be 200,000 keys and values", "there may be 16,777,216 characters"


def laughs(item: str) -> str:
    """Ten aliases of ten aliases of ten..., a billion in all."""
    lines = [f"a0: &a0 [{', '.join(['x'] * 10)}]"]
    lines += [f"a{i}: &a{i} {item.format(', '.join([f'*a{i - 1}'] * 10))}" for i in range(1, 10)]
    return "\n".join(lines)


def nested(opening: str, closing: str = "") -> str:
    return f"a: {opening * 50_000}{closing * 50_000}"


HOSTILE = {
    "billion laughs": (laughs("[{}]"), VALUES),
    "billion laughs by merges": (laughs("{{<<: [{}]}}").replace(f"[{', '.join(['x'] * 10)}]", "{x: 1, y: 2}"), VALUES),
    "long text repeated": (f"a: &a {'x' * 9_000}\nb: &b [{'*a ,' * 900}]\nc: [*b, *b, *b]", CHARACTERS),
    "list of itself": ("a: &a [*a, *a]", "the alias *a stands inside what it names"),
    "mapping of itself": ("a: &a {b: 1, c: {d: *a}}", "the alias *a stands inside what it names"),
    "merge of itself": ("a: &a {<<: *a}", "the alias *a stands inside what it names"),
    "chain of aliases": (
        "a0: &a0 [1]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 500)),
        "this is nested more than 20 levels deep",
    ),
    "lists in lists": (nested("[", "]"), "this is nested more than 20 levels deep, in line 1, column 24"),
    "mappings in mappings": (nested("{a: ", "}"), "this is nested more than 20 levels deep"),
    "open lists": (nested("["), "this is nested more than 20 levels deep"),
    "keys that are keys": ("? " * 50_000, "this is nested more than 20 levels deep"),
    "a million keys": ("".join(f"k{i}: 1\n" for i in range(10**6)), "a mapping may have 1,000 keys"),
    "the same key a million times": ("k: 1\n" * 10**6, "a mapping may have 1,000 keys"),
    "many lists": (f"a: [{'[],' * 200_000}]", "a list may have 1,000 items"),
    "long list": (f"a: {{b: [{'1,' * 1_001}]}}", "a list may have 1,000 items, this has more, in line 1, column 2009"),
    "long list in a row": (f"search: {{list: [[{'1,' * 1_001}]]}}", "a list may have 1,000 items"),
    "huge value": (f"a: {'x' * 10**6}", "a key or value may have 10,000 characters, this has 1,000,000"),
    "huge key": (f"? {'x' * 10**6}\n: 1", "a key or value may have 10,000 characters, this has 1,000,000"),
    "documents": ("a: 1\n---\n" * 10**5, "expected a single document"),
    "NUL": ("a: \0", "unacceptable character"),
    "number of a tag": ("a: !!float ''", "a value must have no tag, this has tag:yaml.org,2002:float"),
    "date of a tag": ("a: !!timestamp x", "a value must have no tag"),
    "own tag": ("a: !mine {b: 1}", "a value must have no tag, this has !mine"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_ends_at_once(name: str) -> None:
    text, rule = HOSTILE[name]
    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        yaml_text.read(text)
    assert time.process_time() - started < SECONDS
    assert rule in str(caught.value)
    assert len(str(caught.value)) < 1_000
    with pytest.raises(SpecError):
        outline(text, ("study", "state"))


def test_ordinary_anchors_and_merges_are_read() -> None:
    text = "a: &a {b: &b 1, c: [2]}\nd: {<<: *a, c: *b}\ne: [*a, *a, *b]"
    a = {"b": 1, "c": [2]}
    assert yaml_text.read(text) == ({"a": a, "d": {"b": 1, "c": 1}, "e": [a, a, 1]}, [])


@pytest.mark.parametrize("row", ["{width: a}", "{wdith%d: 1}"])
def test_thousands_of_mistakes_end_at_once(row: str) -> None:
    rows = "".join(f"    - {row % i if '%' in row else row}\n" for i in range(4_000))
    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        load_text(f"study: a\nsearch:\n  sampler: list\n  list:\n{rows}", base=Path("/"))
    assert time.process_time() - started < SECONDS
    assert "of 4,000 mistakes only the first 1,000 were looked at" in str(caught.value)
    assert len(caught.value.mistakes) < 30


def test_many_weights_in_one_study_end_at_once(tmp_path: Path) -> None:
    files = ", ".join(f"file:{i}.npz" for i in range(200))
    started = time.process_time()
    with pytest.raises(SpecError, match="there is no such file"):
        load_text(f"study: a\nsearch: {{trials: 3}}\nspace: {{init: {{choice: [{files}]}}}}", base=tmp_path)
    assert time.process_time() - started < SECONDS


def refused(file: Path, *fragments: str) -> None:
    with pytest.raises(SpecError) as caught:
        at_once(lambda: load_spec(file))
    for fragment in fragments:
        assert fragment in str(caught.value), f"{fragment!r} is not in: {caught.value}"


def test_a_study_file_is_a_short_text_in_utf8(tmp_path: Path, special_files: dict[str, Path]) -> None:
    for kind, file in special_files.items():
        reason = "this is a folder, not a study file" if kind == "folder" else REASONS[kind]
        refused(file, reason)
    (file := tmp_path / "a.yaml").write_text("# x\n" * 2**20 + "#")
    refused(file, "it has 4,194,305 bytes, at most 4,194,304 are read")
    for encoding in ("utf-16", "latin-1"):
        file.write_text("study: ä", encoding=encoding)
        refused(file, "not text in UTF-8")


def test_files_that_a_study_names_are_regular(tmp_path: Path, special_files: dict[str, Path]) -> None:
    (file := tmp_path / "a.yaml").write_text("")
    for kind, special in special_files.items():
        study = (
            f"study: a\nsearch: {{trials: 1}}\nproblem: {{data: {{npz: {special}}}}}\ntrain: {{init: 'file:{special}'}}"
        )
        file.write_text(study)
        refused(file, f"problem.data: {special} cannot be read ({REASONS[kind]})")
        refused(file, f"train.init: {special} cannot be read ({REASONS[kind]})")
        file.write_text(f"study: a\nsearch: {{sampler: list, list: {special}}}")
        refused(file, f"search.list: {special} cannot be read", REASONS[kind])
        tables = f"{{gauss_points: {special}, lrb: {special}, btb: {special}}}"
        file.write_text(f"study: a\nsearch: {{trials: 1}}\nproblem: {{data: {tables}}}")
        refused(file, f"{special} cannot be read", REASONS[kind])


def test_a_table_of_configurations_is_bounded(tmp_path: Path) -> None:
    (file := tmp_path / "a.yaml").write_text("study: a\nsearch: {sampler: list, list: a.csv}")
    (tmp_path / "a.csv").write_text("width\n" + "1\n" * 100_000)
    refused(file, "search.list: may have 66,666 rows of 1 cells, this has more")
    names = [f"w{i}" for i in range(1_001)]
    (tmp_path / "a.csv").write_text(f"{','.join(names)}\n{','.join(names)}\n")
    refused(file, "search.list: may have 1,000 columns, this has 1,001")


def test_long_lists_of_configurations_are_read() -> None:
    text = "search:\n  sampler: list\n  list:\n" + "    - {width: 8}\n" * 1_500
    assert len(yaml_text.read(text)[0]["search"]["list"]) == 1_500
