"""The study file in a study's folder is a regular file of bounded size, also one that was just written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.errors import StudyError
from sweeps.spec.parse import parse_spec
from sweeps.study import study_file
from sweeps.study.problems import load_problem
from tests.special_files import REASONS, at_once

TEXT = "study: a\nsearch: {sampler: list, list: [{width: 8}, {width: 16}]}\n"


def test_it_is_a_regular_file(tmp_path: Path, special_files: dict[str, Path]) -> None:
    for kind, special in special_files.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / study_file.SPEC_FILE).symlink_to(special)
        with pytest.raises(StudyError, match="cannot be read") as caught:
            at_once(lambda kind=kind: study_file.read_text(tmp_path / kind))
        assert REASONS[kind] in str(caught.value)


def test_none_is_written_that_could_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_spec(TEXT, base=tmp_path, load_problem=load_problem)
    size = len(study_file.stored_text(spec))
    monkeypatch.setattr(study_file, "MOST_STORED_BYTES", size - 1)
    with pytest.raises(StudyError, match=f"has {size:,} bytes, at most {size - 1:,} are read: list fewer"):
        study_file.stored_text(spec)
