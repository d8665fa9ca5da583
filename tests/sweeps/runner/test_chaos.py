"""SIGKILL at random instants to driver, worker, owner, Ray's head or a node: the tables equal those of a calm study."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sweeps.storage.schema import TABLES
from sweeps.storage.tables import StudyTables
from sweeps.study.loading import load_spec
from sweeps.study.study_file import SPEC_FILE
from tests.processes import started

from ..clusters import Node, below, command, kill, named
from ..small import assert_same_tables, prepare, table, train_all, write_study

NAMES = {"worker": "Trainable", "owner": "OwnerActor"}  # in the names that Ray gives its processes
pytestmark = [pytest.mark.xdist_group("ray")]
LATEST_S = 8.0  # after the first sign of work, for a kill
LONG = {"epochs": 5000, "iterations": 200, "thin": 2, "trials": 16, "pack": 2}
KINDS = {  # of studies: the sampler, and what else is set
    "grid": ("grid", ()),
    "qmc": ("qmc", ()),
    "tpe": ("tpe", ("search.deterministic=true", "search.generation=4")),
    "replicates": ("qmc", ("search.replicates=2", "search.trials=8")),
    "asha": ("qmc", ("search.pruner={kind: asha, reduction: 2, rungs: 1, startup_trials: 2}",)),
}


class Chaos:
    """Study that is run again and again while its processes are killed."""

    def __init__(self, folder: Path, kind: str, seed: int, *, latest_s: float = LATEST_S, **size: int) -> None:
        (sampler, settings), size = KINDS[kind], LONG | size
        self.kind, search = kind, [word for setting in settings for word in ("--set", setting)]
        self.file = write_study(folder / "data", sampler=sampler, **size)  # type: ignore[arg-type]
        self.replicates = 2 if kind == "replicates" else 1
        self.trials = size["trials"] // self.replicates
        if sampler == "grid":
            self.file.write_text(self.file.read_text().replace("adam_lr: {loguniform", "adam_lr: {choice"))
        self.options, self.draw, self.root, self.latest_s = search, random.Random(seed), folder / "chaos", latest_s
        self.study_dir, self.kills = self.root / "small", 0
        self.published: dict[Path, bytes] = {}
        self.calm, _ = prepare(folder / "calm", load_spec(self.file, search[1::2]))
        train_all(self.calm, segment_s=5.0).close()

    def run(self, *targets: str, nodes: list[Node] | None = None) -> int:
        """Run the study; kill `targets`, each at a random instant. Returns the exit code, -9 for a killed driver."""
        where = ["--address", nodes[0].address] if nodes else []
        words = command("run", self.file, "--root", self.root, "--plain", *self.options, *where)
        log = self.root.with_suffix(f".{self.kills}.log")
        with open(log, "w") as output, started(words, stdout=output, stderr=output) as driver:
            roots = [driver.pid, *(node.process.pid for node in nodes or [])]
            for target in targets:
                while driver.poll() is None and not self._is_at_work(roots):
                    time.sleep(0.05)
                time.sleep(self.draw.uniform(0, self.latest_s))
                self._kill(target, driver, roots, nodes)
            driver.wait(timeout=240)
        assert "Traceback" not in log.read_text() or "driver" in targets, log.read_text()
        self.published |= {file: file.read_bytes() for file in self.study_dir.glob("trials/*.parquet")}
        return driver.returncode

    def _is_at_work(self, roots: list[int]) -> bool:
        """Return whether a worker lives and the study exists; the first worker starts before the study is open."""
        return (self.study_dir / SPEC_FILE).is_file() and bool(named(roots, NAMES["worker"]))

    def _kill(self, target: str, driver: subprocess.Popen[str], roots: list[int], nodes: list[Node] | None) -> None:
        if driver.poll() is not None:
            return
        if target == "driver":
            driver.kill()
            self.kills += 1
        elif target == "node" and nodes:
            nodes.pop().kill()
            self.kills += 1
        else:
            pids = _heads(driver.pid) if target == "head" else named(roots, NAMES[target])
            self.kills += bool(pids) and kill(self.draw.choice(pids))

    def finish(self, *, with_ray: bool = True) -> None:
        """Run the study to its end and compare it with the calm one."""
        words = command("run", self.file, "--root", self.root, "--plain", *self.options)
        if with_ray:
            again = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
            assert again.returncode == 0, again.stdout + again.stderr
        else:
            train_all(self.study_dir, segment_s=5.0).close()
        study = optuna.load_study(study_name="small", storage=f"sqlite:///{self.study_dir}/study.db")
        states = {"COMPLETE", "PRUNED"} if self.kind == "asha" else {"COMPLETE"}
        assert {trial.state.name for trial in study.trials} <= states, "no zombie"
        expected = [trial for trial in range(self.trials) for _ in range(self.replicates)]
        assert table(self.study_dir, "trials")["trial"].to_pylist() == expected, "no duplicate"
        assert all(file.read_bytes() == content for file, content in self.published.items()), "finished rows unchanged"
        StudyTables(self.study_dir).check_files(TABLES)
        assert not list(self.study_dir.rglob("*.tmp")) and not list((self.study_dir / "checkpoints").glob("*"))
        assert_same_tables(self.calm, self.study_dir, of=self._never_pruned if self.kind == "asha" else None)

    def _never_pruned(self, rows: pa.Table) -> pa.Table:
        """Return the rows of trials that are complete in both studies: what asha prunes depends on the order."""
        tables = (table(study_dir, "trials").to_pylist() for study_dir in (self.calm, self.study_dir))
        complete = [{row["trial"] for row in trials if row["state"] == "COMPLETE"} for trials in tables]
        return rows.filter(pc.is_in(rows["trial"], value_set=pa.array(sorted(set.intersection(*complete)))))


def _heads(pid: int) -> list[int]:
    """Return the process that holds the state of a driver's own Ray cluster, as a list."""
    return [child for child in below(pid) if _program(child).endswith("gcs_server")]


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    except OSError:
        return ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "later", [(), pytest.param(("owner",), marks=pytest.mark.slow)], ids=["worker and driver", "then the owner"]
)
def test_killed_in_turn(tmp_path: Path, later: tuple[str, ...]) -> None:
    chaos = Chaos(tmp_path, "qmc", seed=1, latest_s=2.0, epochs=3000, trials=6)
    codes = [chaos.run("worker", "driver"), *(chaos.run(target) for target in later)]
    enough = codes[0] == -signal.SIGKILL and chaos.kills == 2 + len(later)
    assert enough, f"{codes}, {chaos.kills} kills: too late to prove anything"
    chaos.finish(with_ray=False)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """A head and one more node; a test may kill or add some."""
    started_nodes = [Node(tmp_path, "head")]
    started_nodes.append(Node(tmp_path, "node0", head=started_nodes[0].address))
    try:
        yield started_nodes
    finally:
        for node in reversed(started_nodes):
            node.kill()


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("kind", "kills"), [(kind, 20) for kind in KINDS])
def test_a_hundred_kills(tmp_path: Path, kind: str, kills: int) -> None:
    """Run study after study until `kills` processes were killed."""
    done = 0
    for seed in itertools.count():
        chaos = Chaos(tmp_path / str(seed), kind, seed)
        ends = ("owner", "driver", "head")
        # One worker per study: a member present at two deaths of its worker would rightly be taken for the cause.
        code = chaos.run("worker", chaos.draw.choice(ends))
        while code != 0 and done + chaos.kills < kills:
            code = chaos.run(chaos.draw.choice(ends))
        chaos.finish()
        done += chaos.kills
        print(f"{kind}: {done} kills in {seed + 1} studies", flush=True)
        if done >= kills:
            return


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_nodes_killed_and_added(tmp_path: Path, nodes: list[Node], seed: int) -> None:
    chaos = Chaos(tmp_path, "qmc", seed)
    for turn in range(3):
        if chaos.run(chaos.draw.choice(["node", "worker"]), nodes=nodes) == 0:
            break
        if len(nodes) < 2:
            nodes.append(Node(tmp_path, f"node{turn + 1}", head=nodes[0].address))
    assert chaos.kills >= 1
    chaos.finish()
