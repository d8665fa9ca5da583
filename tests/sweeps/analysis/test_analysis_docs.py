"""The commands and the Python of docs/judgement.md run on studies of the names it uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sweeps.analysis.bootstrap import DRAWS, FEWEST_SEEDS
from sweeps.analysis.leaderboard import SEED_SPREAD
from tests import ROOT

from ..bare_rows import Row, planted
from ..invoking import invoke

TEXT = (ROOT / "docs" / "judgement.md").read_text()


def by_rate(point: Row) -> float:
    return 0.01 + point["adam_lr"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    planted(tmp_path / "runs" / "widths", 40, by_rate)
    planted(tmp_path / "runs" / "deep", 20, by_rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_commands_run(runs: Path) -> None:
    lines = re.findall(r"^    pinnsweep (.*)$", TEXT, flags=re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["top", "compare", "effects"]
    for line in lines:
        result = invoke(*shlex.split(line, comments=True))
        assert result.exit_code == 0 and len(result.stdout.splitlines()) > 5, result.output


def test_its_python_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(code, "judgement.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "widths/3 over widths/7: rel_l2 " in printed and "'adam_lr', " in printed


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"{DRAWS} resamples" in TEXT and f"| {FEWEST_SEEDS} and more |" in TEXT and f"{SEED_SPREAD:g}x" in TEXT
