"""A test that hangs ends: with its limit, with the processes it waits for, or with its own process."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import ROOT
from tests.cluster.waiting import WAIT_S
from tests.processes import line_of, started

CONFTEST = """\
from tests import backstop
backstop.KILL_AFTER_S, backstop.END_AFTER_S = {kill_after_s}, {end_after_s}
def pytest_configure(config): config.pluginmanager.register(backstop)
"""
DEAF_CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True)"
WAITS_FOR_A_CHILD = f"""\
import subprocess, sys

def test_hangs():
    words = [sys.executable, "-c", {DEAF_CHILD + "; time.sleep(600)"!r}]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.stdout.readline()
"""
IGNORES_EVERYTHING = """\
import time

def test_hangs():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""
HANGS_AFTER_A_FAILURE = """\
import pytest, time

@pytest.fixture
def hanging():
    yield
    time.sleep(600)

def test_hangs(hanging):
    assert False
"""
WITHOUT_END = {"wait", "join"}  # where they are given nothing
UNBOUNDED = {"readline", "pause"}  # whatever they are given
RUNS = {"run", "check_call", "check_output", "call"}
HERE = {"processes.py", "stand_in_commands.py"}  # where lines are read in time; what is killed from outside
NEXT = "\ndef test_that_comes_next():\n    pass\n"


def hung(
    folder: Path, code: str, *options: str, kill_after_s: float = 1, end_after_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """A run of pytest on some tests with a limit of a second."""
    (folder / "pytest.ini").touch()
    (folder / "conftest.py").write_text(CONFTEST.format(kill_after_s=kill_after_s, end_after_s=end_after_s))
    (folder / "test_it.py").write_text(code + NEXT)
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=1", "-rfEp", *options, "test_it.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def test_what_a_test_waits_for_is_killed_and_the_next_test_runs(tmp_path: Path) -> None:
    ran = hung(tmp_path, WAITS_FOR_A_CHILD)
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout + ran.stderr
    assert "FAILED test_it.py::test_hangs - Failed: Timeout" in ran.stdout
    assert "PASSED test_it.py::test_that_comes_next" in ran.stdout


@pytest.mark.parametrize("code", [IGNORES_EVERYTHING, HANGS_AFTER_A_FAILURE], ids=["ignores", "teardown"])
def test_where_nothing_helps_the_process_ends_and_says_where_it_stood(tmp_path: Path, code: str) -> None:
    ran = hung(tmp_path, code, end_after_s=2)
    assert ran.returncode == 1 and "passed" not in ran.stdout
    assert "Timeout (0:00:0" in ran.stderr and str(tmp_path / "test_it.py") in ran.stderr


def test_one_of_several_processes_that_ends_so_ends_the_run(tmp_path: Path) -> None:
    ran = hung(tmp_path, IGNORES_EVERYTHING, "-n1", "--max-worker-restart=0", end_after_s=2)
    assert ran.returncode != 0
    assert "crashed while running 'test_it.py::test_hangs'" in ran.stdout


def test_a_process_that_says_nothing_is_killed_with_those_below_it() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {DEAF_CHILD + '; time.sleep(600)'!r}])"
    with started([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert line_of(process) == "begun\n"
        assert line_of(process, within_s=0.1) == ""


def test_processes_can_be_interrupted_also_where_the_caller_ignores_it(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(
        textwrap.dedent("""\
        import os, signal, subprocess, sys
        import pytest
        import tests.conftest

        def test_it():
            code = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
            done = subprocess.run([sys.executable, "-c", code], timeout=60)
            assert done.returncode == -signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        """)
    )
    (tmp_path / "pytest.ini").touch()
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(file)]
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*ignoring, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_this_process_can_be_interrupted() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def waits_freely(call: ast.Call) -> bool:
    """Whether a call may wait for another process or thread without end."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name, given = call.func.attr, {keyword.arg for keyword in call.keywords}
    if name in RUNS and isinstance(call.func.value, ast.Name) and call.func.value.id == "subprocess":
        return "timeout" not in given
    if name == "communicate":
        return "timeout" not in given
    return name in UNBOUNDED or (name in WITHOUT_END and not call.args and not given)


def test_no_test_waits_without_a_limit() -> None:
    found = []
    for file in sorted((ROOT / "tests").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        if file.name not in HERE:
            found += [f"{file.name}:{call.lineno}" for call in calls if waits_freely(call)]
    assert found == []
