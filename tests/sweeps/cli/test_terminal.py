"""What commands print fits the terminal, whatever its width; elsewhere it is plain text in whole lines."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sweeps.cli.printing import aligned, fitted
from sweeps.own_name import own_name
from sweeps.words import terminal_width
from tests.cluster.waiting import WAIT_S
from tests.processes import started

from ..clusters import command
from ..invoking import invoke, made_study
from ..synthetic import make_study

WIDTHS = (60, 80)
WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{4,30}(?![A-Za-z])")
ESCAPE = "\x1b"
WRONG = "study: wrong\nproblem: {name: nonlocal_strain, boundary_wieght: 1}\nsearch: {sampler: tpee, trials: 0}\n"
COMMANDS = {  # what prints tables and sentences for people, by its exit code
    "status": 0,
    "status first": 0,
    "list": 0,
    "top made": 0,
    "effects made": 0,
    "compare made/3 made/5": 0,
    "compare made twin": 0,
    "show made best": 0,
    "query made .schema": 0,
    "query made .tables": 0,
    "query made 'SELECT * FROM trials LIMIT 2'": 0,
    "query made 'SELECT * FROM by_config LIMIT 3'": 0,
    "validate wrong.yaml": 2,
    "plan good.yaml --no-calibrate": 0,
    "problem": 0,
    "problem kovasznay": 0,
    "doctor": 0,
    "jobs": 0,
    "retry first 0": 2,
    "report nowhere": 2,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three studies in runs/, one in others/, and two study files."""
    folder = tmp_path_factory.mktemp("terminal")
    make_study(folder / "runs" / "made", trials=12, failed=2, replicates=2)
    shutil.copytree(folder / "runs" / "made", folder / "runs" / "twin")
    for place in ("runs", "others"):
        made_study(folder / place, "first", ("COMPLETE", "FAIL", "PRUNED"))
    (folder / "wrong.yaml").write_text(WRONG)
    (folder / "good.yaml").write_text("study: good\nsearch: {trials: 4}\nspace: {width: {choice: [4, 8]}}\n")
    return folder


@pytest.fixture
def on_terminal(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the output of commands a terminal of so many columns."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root))

    def of(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda stream: True, raising=False)

    return of


def words_of(line: str) -> list[str]:
    return [word.strip("'") for word in re.findall(r"'[^']*'|\S+", line)]


@pytest.mark.parametrize("line", COMMANDS)
def test_lines_fit_the_terminal_and_lose_no_word(on_terminal: Callable[[int], None], line: str) -> None:
    whole = invoke(*words_of(line))
    assert whole.exit_code == COMMANDS[line] and whole.output.strip(), whole.output
    for width in WIDTHS:
        on_terminal(width)
        narrow = invoke(*words_of(line)).output
        assert ESCAPE not in narrow
        wide = [each for each in narrow.splitlines() if len(each) > width and own_name() not in each]
        assert wide == [], f"{width} columns"
        assert set(WORD.findall(whole.output)) <= set(WORD.findall(narrow))


def test_effects_name_the_dimension_beside_each_of_its_values(on_terminal: Callable[[int], None]) -> None:
    on_terminal(60)
    heads = [line for line in invoke("effects", "made").stdout.splitlines() if line.startswith("dimension")]
    assert len(heads) > 4 and all(len(line.split()) >= 2 for line in heads)


def test_a_pipe_gets_whole_lines(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "40")
    assert "\nfirst  3/3     1       rel_l2 10 %  " in invoke("list", "--root", "others").stdout
    assert max(map(len, invoke("validate", "wrong.yaml").stderr.splitlines())) > 100


# ---- text ----------------------------------------------------------------------------------------------------------


def test_text_is_broken_at_spaces_below_what_it_belongs_to() -> None:
    text = "Packs  four of up to four members\n  note: of one and of two\na-b/c/very/long/path-that-cannot-be-broken"
    assert fitted(text, 20).splitlines() == [
        "Packs  four of up to",
        "       four members",
        "  note: of one and",
        "    of two",
        "a-b/c/very/long/path-that-cannot-be-broken",
    ]
    assert fitted(text, None) == text
    assert fitted("  part   12 %  one two three", 26) == "  part   12 %  one two\n" + " " * 15 + "three"
    assert fitted("error: there is no study", 18) == "error: there is no\n       study"


@pytest.mark.parametrize("name", ["pinnsweep", "/opt/a/pinnsweep", "python -m sweeps.cli", own_name()])
def test_commands_stay_whole(name: str) -> None:
    line = f'  {name} query runs/widths "SELECT * FROM trials"'
    assert fitted(line, 20) == line and fitted(f"error:{line}", 20) == f"error:{line}"


@pytest.mark.parametrize("columns", ["", "0", "many"])
def test_without_a_size_nothing_is_folded(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    ours, theirs = pty.openpty()  # of no size, as some containers and services have it
    with os.fdopen(ours), os.fdopen(theirs, "w") as terminal:
        assert terminal_width(terminal) is None
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 61, 0, 0))
        assert terminal_width(terminal) == 61
        monkeypatch.setenv("COLUMNS", "44")
        assert terminal_width(terminal) == 44
    assert aligned([("job", "state"), ("1", "done")]) == "job  state\n1    done"


# ---- a real terminal -----------------------------------------------------------------------------------------------


def on_pty(argv: Sequence[str | Path], columns: int, folder: Path, **variables: str) -> str:
    """Return what a process prints on a terminal of its own, of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    environment = {**kept, "TERM": "xterm-256color", **variables}
    with started(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment) as process:
        os.close(theirs)
        output = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            try:
                while piece := terminal.read(65536):
                    output += piece
            except OSError:  # Linux says so that nobody has the other side any more
                pass
        assert process.wait(timeout=WAIT_S) == 0, output
    return output.decode().replace("\r\n", "\n")


def test_a_list_on_a_real_terminal(root: Path) -> None:
    argv = command("list", "--root", root / "others")
    narrow, wide = on_pty(argv, 60, root), on_pty(argv, 120, root)
    assert max(map(len, narrow.splitlines())) <= 60 and re.search(r"^size +", narrow, flags=re.MULTILINE)
    assert wide.splitlines()[0].startswith("study  trials  failed  best")
    assert ESCAPE not in narrow + wide


BAR = """
import time
from sweeps.cli.options import bar_on_terminal
with bar_on_terminal() as bar:
    if bar is None:
        print("no bar")
    else:
        bar.update(bar.add_task("a long description " * 4, total=4.0), completed=1.0)
        time.sleep(0.3)
"""


@pytest.mark.parametrize(
    ("variables", "shows_bar", "colours"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False)],
    ids=["terminal", "NO_COLOR", "dumb"],
)
def test_a_bar_of_progress_fits_and_is_coloured_only_where_it_may(
    root: Path, variables: dict[str, str], shows_bar: bool, colours: bool
) -> None:
    output = on_pty([sys.executable, "-c", BAR], 60, root, **variables)
    assert bool(re.search(rf"{ESCAPE}\[[\d;]*3\dm|{ESCAPE}\[38;", output)) is colours
    if not shows_bar:
        assert output == "no bar\n"
        return
    drawn = re.sub(rf"{ESCAPE}\[[?\d;]*[A-Za-z]", "", output)
    (frame,) = {line.strip() for line in re.split(r"[\r\n]", drawn) if "25 %" in line}
    assert len(frame) <= 60 and frame.endswith("…") and "a long description" in frame


def test_no_colour_in_a_pipe(root: Path) -> None:
    argv = command("validate", root / "wrong.yaml")
    ended = subprocess.run(argv, capture_output=True, timeout=WAIT_S, cwd=root, check=False)
    assert ended.returncode == 2 and ESCAPE.encode() not in ended.stdout + ended.stderr
