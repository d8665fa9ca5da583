"""The commands and the Python of docs/judgement.md run on studies of the names it uses."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sweeps.analysis.bootstrap import DRAWS, FEWEST_SEEDS
from sweeps.analysis.leaderboard import SEED_SPREAD
from tests.pages import DOCS, blocks, lines_of

from ..bare_rows import Row, planted
from ..invoking import invoke

PAGE = DOCS / "judgement.md"
TEXT = PAGE.read_text()


def by_rate(point: Row) -> float:
    return 0.01 + point["adam_lr"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    planted(tmp_path / "runs" / "widths", 40, by_rate)
    planted(tmp_path / "runs" / "deep", 20, by_rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_commands_run(runs: Path) -> None:
    commands = [shlex.split(line, comments=True)[1:] for block in blocks(PAGE, "sh") for line in lines_of(block)]
    assert [words[0] for words in commands] == ["top", "compare", "effects"]
    for words in commands:
        result = invoke(*words)
        assert result.exit_code == 0 and len(result.stdout.splitlines()) > 5, result.output


def test_its_python_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = blocks(PAGE, "python")
    exec(compile(script.text, "judgement.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "widths/3 over widths/7: rel_l2 " in printed and "'adam_lr', " in printed


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"{DRAWS} resamples" in TEXT and f"| {FEWEST_SEEDS} and more |" in TEXT and f"{SEED_SPREAD:g}x" in TEXT
