"""Getting a command to run on machines: a command line, resources and environment in; state, logs, exit code out.

    executor = LocalExecutor(Path("runs/.jobs"))
    handle = executor.submit(Job(argv=("pinnsweep", "run", "study.yaml")))
    handle.wait()

A back-end is one subclass of `Executor`. Nothing is pickled and nothing passes through a shell.
"""

from .errors import ClusterError as ClusterError
from .errors import JobError as JobError
from .errors import JobNotFound as JobNotFound
from .errors import LogsNotKept as LogsNotKept
from .executor import Check as Check
from .executor import Executor as Executor
from .inline import INLINE as INLINE
from .inline import InlineExecutor as InlineExecutor
from .job import Job as Job
from .job import JobHandle as JobHandle
from .job import JobState as JobState
from .job import Resources as Resources
from .kubernetes import KubernetesProfile as KubernetesProfile
from .local import LOCAL as LOCAL
from .local import LocalExecutor as LocalExecutor
from .local import LocalProfile as LocalProfile
from .profile import Profile as Profile
from .rayjobs import RayProfile as RayProfile
from .slurm import SlurmProfile as SlurmProfile
from .vms import VmsProfile as VmsProfile
