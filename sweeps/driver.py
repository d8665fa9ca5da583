"""`pinnsweep run`: a fresh Tuner over the study's owner. Running a study again is resuming it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pinncore.errors import PinnError

from .compiling import compile_ahead
from .errors import RunLostError, StudyError, SweepError
from .folder import SPEC_FILE, open_folder, read_spec
from .live import Progress
from .machine import available_cpus, device_of
from .spec import StudySpec, load_spec
from .study import Cluster, StudyOwner

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # a local cluster is for its user alone; the token is made and found by Ray
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own progress tables: ours say more
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
ADDRESS_TIMEOUT_S = 5.0
_GO_ON = "Mend what is wrong and run the study again: it goes on where it was"
LOOK_S = 0.5  # between two looks at the owner for the progress view
EXIT_DONE, EXIT_FAILURES, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: exit code 0 all trials complete, 1 some failed, 130 interrupted."""

    exit_code: int
    study_dir: Path
    counts: dict[str, int]
    best: dict[str, Any] | None


def run(
    target: Path,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    plain: bool = False,
) -> RunOutcome:
    """Train a study's trials, or go on with them; `target` is a study file or a study folder.

    Raises `SpecError` and `StudyError` before anything is started or written.
    """
    spec, root = _study(target, root, [*overrides, *([f"search.trials={trials}"] if trials else [])])
    study_dir, is_new = open_folder(root, spec)
    with Progress(Console(stderr=False), plain=plain) as progress:
        for warning in spec.warnings:
            progress.message(f"warning: {warning}")
        progress.message(f"{'starting' if is_new else 'resuming'} study {spec.study} in {study_dir}")
        try:
            # twice: ray.init puts a handler of its own in place of the first
            with _sigterm_interrupts():
                if address is None:
                    compile_ahead(spec)
                with _ray(address, cpus) as ray, _sigterm_interrupts():
                    return _run_on(ray, spec, study_dir, progress)
        except (KeyboardInterrupt, SystemExit):  # while it starts, Ray turns SIGTERM into SystemExit
            return RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None)


def _study(target: Path, root: Path, overrides: Sequence[str]) -> tuple[StudySpec, Path]:
    """The study that a file or a folder names, and the root it lies in."""
    if not target.is_dir():
        return load_spec(target, overrides), root
    study_dir = target.resolve()
    if not (study_dir / SPEC_FILE).is_file():
        raise StudyError(f"{target} is not a study: it has no {SPEC_FILE}")
    spec = read_spec(study_dir, overrides)
    if spec.study != study_dir.name and not any(override.startswith("study=") for override in overrides):
        raise StudyError(
            f"{study_dir} holds the study {spec.study}, and a study's folder has its name. Rename the folder to "
            f"{spec.study}, or begin a study of another name from its {SPEC_FILE}: --set study=NAME"
        )
    return spec, study_dir.parent


@contextlib.contextmanager
def _ray(address: str | None, cpus: int | None) -> Iterator[Any]:
    """A Ray cluster for the length of a run: a local one on the granted cores, or the one at `address`."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    if address:
        _refuse_silent_address(address)
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    local: dict[str, Any] = {} if address else {"num_cpus": cpus or available_cpus(), "include_dashboard": False}
    try:
        ray.init(address or "local", namespace="pinnsweep", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as problem:
        if not address:
            raise
        raise _no_cluster(address, str(problem).splitlines()[0]) from None
    for name in ("ray", "ray.tune", "ray.train", "ray.air"):  # after fit() Tune warns of loggers we do not use
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_silent_address(address: str) -> None:
    """Ray itself waits for minutes for an address at which nobody listens."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StudyError(
            f"--address: must be HOST:PORT of a Ray head node (its port is 6379 by default), got {address!r}"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ADDRESS_TIMEOUT_S).close()
    except OSError as problem:
        raise _no_cluster(address, problem.strerror or str(problem)) from None


def _no_cluster(address: str, reason: str) -> StudyError:
    return StudyError(
        f"no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, or leave --address out "
        "to run on this machine. A cluster with a token wants it in RAY_AUTH_TOKEN, one without RAY_AUTH_MODE=disabled"
    )


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: resumable, with exit code 130."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_on(ray: Any, spec: StudySpec, study_dir: Path, progress: Progress) -> RunOutcome:
    cluster, resources = _placement(ray, spec)
    owner = _start_owner(ray, study_dir, cluster, spec)
    interrupted = False
    try:
        try:
            with _Watcher(ray, owner.actor, progress):
                _fit(owner, study_dir, cluster, resources)
        except KeyboardInterrupt:
            interrupted = True
        actor = owner.actor
        snapshot, budget_spent, broken = ray.get(
            [actor.snapshot.remote(), actor.over_budget.remote(), actor.broken.remote()]
        )
        if broken:
            raise RunLostError(f"{study_dir}: results could not be recorded ({broken}). {_GO_ON}")
        counts = ray.get(actor.close.remote())
    except ray.exceptions.RayError as problem:
        raise RunLostError(f"the owner of {study_dir} is gone ({_last_line(problem)}). {_GO_ON}") from None
    progress.update(snapshot)
    left = snapshot["limit"] - counts["COMPLETE"] - counts["FAIL"]
    exit_code = EXIT_INTERRUPTED if interrupted else EXIT_FAILURES if counts["FAIL"] else EXIT_DONE
    if left > 0 and not interrupted:
        cause = "the budget is spent" if budget_spent else "their packs could not be trained to the end"
        progress.message(f"{left} trials are unfinished: {cause}. Run the study again to go on")
        exit_code = exit_code if budget_spent else EXIT_FAILURES
    return RunOutcome(exit_code, study_dir, counts, snapshot["best"])


def _placement(ray: Any, spec: StudySpec) -> tuple[Cluster, dict[str, float]]:
    """Device, concurrent packs and the resources of each. Raises `StudyError` where no node can hold a pack."""
    total, wanted = ray.cluster_resources(), spec.resources
    gpus = total.get("GPU", 0)
    device = device_of(spec, has_gpu=bool(gpus))
    if device == "cuda" and not gpus:
        raise StudyError("resources.device: cuda, but no node of the cluster has a GPU. Use device: auto or cpu")
    share = wanted.gpus_per_pack if wanted.gpus_per_pack is not None else 1.0
    resources: dict[str, float] = {"cpu": wanted.cpus_per_pack} | ({"gpu": share} if device == "cuda" else {})
    if share > 1 and share != int(share):
        raise StudyError(f"resources.gpus_per_pack: must be a whole number or at most 1, got {share:g}")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0) >= resources["cpu"] and node.get("GPU", 0) >= resources.get("gpu", 0) for node in nodes
    ):
        have = "; ".join(f"{node.get('CPU', 0):g} cores, {node.get('GPU', 0):g} GPUs" for node in nodes)
        raise StudyError(
            f"resources: no node can hold a pack of {resources}; the nodes have {have}. Ask for less a pack"
        )
    slots = int(total.get("CPU", 0) // wanted.cpus_per_pack)
    if device == "cuda" and share > 0:
        slots = min(slots, int(gpus // share))
    return Cluster(max(slots, 1), device), resources


@dataclass(frozen=True)
class _Owner:
    actor: Any
    name: str


class _OwnerActor(StudyOwner):
    """The owner as Ray holds it: begun by a call, because an error in an actor's constructor loses its type."""

    def __init__(self) -> None:
        pass

    def begin(self, study_dir: Path, cluster: Cluster, spec: StudySpec, *, driver_pid: int) -> None:
        """Take the study. Raises what `StudyOwner` raises."""
        super().__init__(study_dir, cluster, spec, driver_pid=driver_pid)


def _start_owner(ray: Any, study_dir: Path, cluster: Cluster, spec: StudySpec) -> _Owner:
    """The owner as an actor on this node, where the driver's files are."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"owner-{uuid.uuid4().hex[:12]}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_OwnerActor).options(name=name, num_cpus=0, scheduling_strategy=here).remote()
    try:
        ray.get(actor.begin.remote(study_dir.absolute(), cluster, spec, driver_pid=os.getpid()))
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, (SweepError, PinnError)):
            raise problem.cause from None
        raise
    except ray.exceptions.RayError as problem:
        raise StudyError(
            f"the study's owner could not be started on the cluster ({_last_line(problem)}). Where the cluster has "
            "authentication off, set RAY_AUTH_MODE=disabled"
        ) from None
    return _Owner(actor, name)


def _last_line(problem: BaseException) -> str:
    return next((line.strip() for line in reversed(str(problem).splitlines()) if line.strip()), type(problem).__name__)


def _fit(owner: _Owner, study_dir: Path, cluster: Cluster, resources: dict[str, float]) -> None:
    """Let Tune place packs until the owner has none left."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(
        cluster.slots
    )  # Tune's default for a searcher of our own is one at a time
    from ray import tune

    from .tune import PackSearcher, WorkerContext, pack_trainable

    trainable = pack_trainable(WorkerContext(str(study_dir.absolute()), owner.name, "pinnsweep"))
    with tempfile.TemporaryDirectory(prefix="pinnsweep-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(search_alg=PackSearcher(owner.actor), num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=scratch,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                failure_config=tune.FailureConfig(max_failures=1),
            ),
        ).fit()


class _Watcher:
    """Shows the owner's snapshots while Tune holds the main thread."""

    def __init__(self, ray: Any, actor: Any, progress: Progress) -> None:
        self._ray, self._actor, self._progress = ray, actor, progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                self._progress.update(self._ray.get(self._actor.snapshot.remote()))
            except self._ray.exceptions.RayError:
                return
