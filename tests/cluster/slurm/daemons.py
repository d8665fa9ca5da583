"""A real SLURM for tests: its daemons as ordinary processes of whoever runs the tests, two nodes on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import Executor
from cluster.slurm.executor import SlurmExecutor
from cluster.slurm.profile import SlurmProfile
from tests.cluster.waiting import WAIT_S

from ..waiting import eventually
from .stand_in import kill_all

NEEDED = ("slurmctld", "slurmd", "munged", "munge", "sbatch", "srun")
NODES = ("n1", "n2")
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=5
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=60
PartitionName=closed Nodes=ALL State=DOWN
"""  # a job that is queued again waits until its credential expires


@contextlib.contextmanager
def slurm_daemons() -> Iterator[Path]:
    """A cluster that SLURM's commands find in the environment; yields its folder, with the log of each daemon."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in NEEDED if not shutil.which(name, path=path)]
    if missing:
        pytest.skip(f"a real SLURM needs {', '.join(missing)} (Debian: apt install slurm-wlm munge)")
    with (
        tempfile.TemporaryDirectory(prefix="ps", dir="/tmp") as name,
        pytest.MonkeyPatch.context() as patch,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "munge").mkdir(mode=0o711)
        (folder / "state").mkdir()
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        host = socket.gethostname().partition(".")[0]
        config = CONFIG.format(
            folder=folder, host=host, user=_user(), ports=_free_ports(3), cpus=len(os.sched_getaffinity(0))
        )
        (folder / "slurm.conf").write_text(config)
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        patch.setenv("PATH", path)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        stack.callback(kill_all, f"SLURM_CONF={folder / 'slurm.conf'}")
        own = [f"--{what}-file={folder / 'munge' / what}" for what in ("key", "pid", "log", "seed")]
        _start(folder, "munged", "--foreground", "--num-threads=10", f"--socket={folder / 'munge' / 'socket'}", *own)
        eventually((folder / "munge" / "socket").exists)
        _start(folder, "slurmctld", "-D")
        for node in NODES:
            _start(folder, "slurmd", "-D", "-N", node)
        eventually(lambda: _told("sinfo", "--noheader", "--format=%T %D", "--partition=main") == f"idle {len(NODES)}")
        yield folder
        subprocess.run(["scancel", "--user", _user()], timeout=WAIT_S, check=False)


@contextlib.contextmanager
def real_slurm_place(folder: Path) -> Iterator[Callable[[], Executor]]:
    """The same as a place for the contract of all places; a job takes some ten seconds there, most of them Ray's."""
    with slurm_daemons():
        yield lambda: SlurmExecutor(SlurmProfile(root=str(folder)), "slurm", poll_s=0.2)


def _start(folder: Path, *argv: str) -> None:
    with (folder / f"{argv[0]}.log").open("ab") as log:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout.strip()


def _user() -> str:
    return _told("id", "-un")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
