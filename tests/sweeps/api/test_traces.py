"""The comparison of traces from Python, on the trace of a real TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest

import sweeps
from pinncore.errors import TraceError
from tests import ROOT

TRACE = ROOT / "examples" / "traces" / "tensorflow1_4-4-1.npz"


def test_the_convention_is_named() -> None:
    said = sweeps.compare_traces(TRACE, settings={"adam_convention": "torch"})
    assert said.record["agrees"] is False and said.record["found"] == ["adam_convention: tf1"]
    assert "part at weights W1 at step 1" in said.text and "To train so here" in said.text.replace("\n", " ")
    best = said.to_pandas().iloc[0]
    assert best["setting"] == "adam_convention: tf1" and best["vanishes"]
    differences = said.to_pandas("differences")
    assert not differences[differences["step"] == 0]["beyond_rounding"].any()
    page = said._repr_html_()
    assert "part at weights W1" in page and page.count("<tr>") == 9 and all(note in page for note in said.notes)


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"none")
    with pytest.raises(TraceError, match=r"a\.npz"):
        sweeps.compare_traces(tmp_path / "a.npz")
