"""Several machines: nodes that join late train too, and nodes that cannot see the study are named before the start."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..clusters import Node, command, named, wait_for
from ..small import table, write_study

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, "head")
    try:
        yield node
    finally:
        node.kill()


@pytest.mark.slow
def test_a_node_that_joins_late_gets_work(tmp_path: Path, head: Node) -> None:
    file = write_study(tmp_path / "data", epochs=6000, iterations=300, thin=1, trials=8, pack=1)
    words = command("run", file, "--root", tmp_path, "--address", head.address, "--plain")
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    late = None
    try:
        wait_for(lambda: named([head.process.pid], "Trainable"), driver)
        late = Node(tmp_path, "late", head=head.address)
        wait_for(lambda: named([late.process.pid], "Trainable"), driver)
        output, _ = driver.communicate(timeout=200)
        assert driver.returncode == 0, output
        assert table(tmp_path / "small", "trials")["trial"].to_pylist() == list(range(8))
    finally:
        driver.kill()
        if late:
            late.kill()


@pytest.mark.slow
def test_a_node_that_does_not_see_the_root_is_named(tmp_path: Path, head: Node) -> None:
    root = tmp_path / "root"
    root.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {root} && exec "$@"', "sh"]
    tried = [*hidden, "true"]
    if not shutil.which("unshare") or subprocess.run(tried, capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("no mount namespaces here: the node cannot be made blind")
    blind = Node(tmp_path, "blind", head=head.address, wrapper=hidden)
    try:
        file = write_study(tmp_path / "data", trials=4)
        words = command("run", file, "--root", root, "--address", head.address, "--plain")
        refused = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "does not see" in refused.stderr and str(root) in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not list((root / "small").glob("trials/*"))
    finally:
        blind.kill()


@pytest.mark.slow
def test_two_studies_share_a_cluster(tmp_path: Path) -> None:
    """The second gets a worker while the first has trials left, and all of them once it is done."""
    head = Node(tmp_path, "head", cpus=2)
    drivers = []
    try:
        for name, trials in (("first", 14), ("second", 10)):
            file = write_study(tmp_path / name, epochs=9000, iterations=300, thin=2, trials=trials, pack=1)
            file.write_text(file.read_text().replace("study: small", f"study: {name}"))
            words = command("run", file, "--root", tmp_path / "root", "--address", head.address, "--plain")
            drivers.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            wait_for(lambda name=name: list((tmp_path / "root" / name).glob("trials/*.parquet")), drivers[-1])
        for driver in drivers:
            output, _ = driver.communicate(timeout=240)
            assert driver.returncode == 0, output
        first: dict[str, list[datetime.datetime]] = {}
        second: dict[str, list[datetime.datetime]] = {}
        for name, times in (("first", first), ("second", second)):
            for row in table(tmp_path / "root" / name, "events").to_pylist():
                times.setdefault(row["event"], []).append(row["time"])
        assert min(second["leased"]) < max(first["finished"]), "the second did not wait for the first"
        assert (first["ended"][0] - max(first["finished"])).total_seconds() < 30, "nor the first for the second"
    finally:
        for driver in drivers:
            driver.kill()
        head.kill()
