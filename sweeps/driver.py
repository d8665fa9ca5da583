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

from .errors import StudyError
from .folder import SPEC_FILE, open_folder, read_spec
from .live import Progress
from .spec import StudySpec, load_spec, parse_spec
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
    console = Console(stderr=False)
    with Progress(console, plain=plain) as progress:
        for warning in spec.warnings:
            progress.message(f"warning: {warning}")
        progress.message(f"{'starting' if is_new else 'resuming'} study {spec.study} in {study_dir}")
        with _ray(address, cpus) as ray, _sigterm_interrupts():
            return _run_on(ray, spec, study_dir, progress)


def available_cpus() -> int:
    """Cores this process may use, which under a scheduler are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _study(target: Path, root: Path, overrides: Sequence[str]) -> tuple[StudySpec, Path]:
    if not target.is_dir():
        return load_spec(target, overrides), root
    if not (target / SPEC_FILE).is_file():
        raise StudyError(f"{target} is not a study: it has no {SPEC_FILE}")
    if not overrides:
        return read_spec(target), target.parent
    return parse_spec(
        (target / SPEC_FILE).read_text(encoding="utf-8"), base=target.absolute(), overrides=overrides
    ), target.parent


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
    for name in ("ray", "ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(
            logging.CRITICAL
        )  # after fit() Tune warns once a pack of loggers we do not use
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
        "to run on this machine"
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
    owner = _start_owner(ray, study_dir, cluster)
    interrupted = False
    watcher = _Watcher(ray, owner.actor, progress)
    try:
        with watcher:
            _fit(owner, study_dir, cluster, resources)
    except KeyboardInterrupt:
        interrupted = True
    snapshot, budget_spent = ray.get([owner.actor.snapshot.remote(), owner.actor.over_budget.remote()])
    progress.update(snapshot)
    counts = ray.get(owner.actor.close.remote())
    exit_code = EXIT_INTERRUPTED if interrupted else EXIT_FAILURES if counts["FAIL"] else EXIT_DONE
    if counts["WAITING"] and not interrupted:
        cause = "the budget is spent" if budget_spent else "their packs could not be trained to the end"
        progress.message(f"{counts['WAITING']} trials are unfinished: {cause}. Run the study again to go on")
        exit_code = exit_code if budget_spent else EXIT_FAILURES
    return RunOutcome(exit_code, study_dir, counts, snapshot["best"])


def _placement(ray: Any, spec: StudySpec) -> tuple[Cluster, dict[str, float]]:
    """Device, concurrent packs and the resources of each. Raises `StudyError` where no node can hold a pack."""
    total, wanted = ray.cluster_resources(), spec.resources
    gpus = total.get("GPU", 0)
    device = wanted.device if wanted.device != "auto" else "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise StudyError("resources.device: cuda, but no node of the cluster has a GPU. Use device: auto or cpu")
    share = wanted.gpus_per_pack if wanted.gpus_per_pack is not None else 1.0
    resources: dict[str, float] = {"cpu": wanted.cpus_per_pack} | ({"gpu": share} if device == "cuda" else {})
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    if wanted.cpus_per_pack > largest:
        raise StudyError(
            f"resources.cpus_per_pack: must be at most {largest}, the cores of the largest node, "
            f"got {wanted.cpus_per_pack}"
        )
    slots = int(total.get("CPU", 0) // wanted.cpus_per_pack)
    if device == "cuda" and share > 0:
        slots = min(slots, int(gpus // share))
    return Cluster(max(slots, 1), device), resources


@dataclass(frozen=True)
class _Owner:
    actor: Any
    name: str


def _start_owner(ray: Any, study_dir: Path, cluster: Cluster) -> _Owner:
    """The owner as an actor on this node, where the driver's files are."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"owner-{uuid.uuid4().hex[:12]}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = (
        ray.remote(StudyOwner)
        .options(name=name, num_cpus=0, scheduling_strategy=here)
        .remote(study_dir.absolute(), cluster, driver_pid=os.getpid())
    )
    try:
        ray.get(actor.snapshot.remote())
    except ray.exceptions.RayActorError as problem:
        cause = _cause(problem)
        if cause is None:
            raise
        raise cause from None
    return _Owner(actor, name)


def _cause(problem: BaseException | None) -> StudyError | None:
    """The user's mistake inside Ray's wrapping, if that is what ended the actor."""
    while problem is not None:
        if isinstance(problem, StudyError):
            return problem
        problem = getattr(problem, "cause", None) or problem.__cause__
    return None


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
