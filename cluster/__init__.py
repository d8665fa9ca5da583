"""Getting a command to run on machines: a command line, resources and environment in; state, logs, exit code out.

    executor = LocalExecutor(Path("runs/.jobs"))
    handle = executor.submit(Job(argv=("pinnsweep", "run", "study.yaml")))
    handle.wait()

A back-end is one subclass of `Executor`. Nothing is pickled and nothing passes through a shell.
"""

from .backends import BACKENDS as BACKENDS
from .backends import executor_of as executor_of
from .errors import ClusterError as ClusterError
from .errors import JobError as JobError
from .errors import JobNotFound as JobNotFound
from .errors import LogsNotKept as LogsNotKept
from .executor import Check as Check
from .executor import Executor as Executor
from .job import Job as Job
from .job import JobHandle as JobHandle
from .job import JobState as JobState
from .job import Resources as Resources
from .kubernetes.profile import KubernetesProfile as KubernetesProfile
from .local.executor import LocalExecutor as LocalExecutor
from .local.inline import INLINE as INLINE
from .local.inline import InlineExecutor as InlineExecutor
from .local.profile import LOCAL as LOCAL
from .local.profile import LocalProfile as LocalProfile
from .profile import Profile as Profile
from .ray.profile import RayProfile as RayProfile
from .slurm.profile import SlurmProfile as SlurmProfile
from .vms.profile import VmsProfile as VmsProfile
