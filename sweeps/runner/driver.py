"""`pinnsweep run`: a fresh Tuner over the study's owner. Running a study again is resuming it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.scratch import scratch_folder
from pinncore.errors import PinnError

from ..errors import RunLostError, StudyError, SweepError
from ..owner.capacity import ClusterCapacity
from ..spec.study_spec import StudySpec
from ..spec.warnings import warnings_of
from ..states import FINISHED
from ..storage.lock import refuse_held
from ..study import home
from ..study.folder import open_folder
from ..study.loading import load_spec, read_spec
from ..study.log import log_exception
from ..study.study_file import SPEC_FILE
from .cluster_view import ClusterView
from .fair_share import Shares
from .preflight import Expected, check_nodes, expected_here, last_line
from .progress import Progress
from .ray_cluster import NAMESPACE, RayCluster
from .watcher import Echoes, Pulse, Watcher

GO_ON = "Run the study again to go on"
RESTARTS = 3  # of a worker in its slot; the owner gives up on members long before
FIRST_SLOT = 1  # begins to start on this machine while the owner still opens the study
EXIT_DONE, EXIT_FAILURES, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: exit code 0 all trials complete, 1 some failed, 130 interrupted."""

    exit_code: int
    study_dir: Path
    counts: dict[str, int]
    best: dict[str, Any] | None


Leave = Callable[[RunOutcome], None]


def run(
    target: Path,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    plain: bool = False,
    retry: Sequence[int] = (),
    began: float | None = None,
    leave: Leave | None = None,
) -> RunOutcome:
    """Train a study's trials, or go on with them; `target` is a study file or a study folder.

    Time that is shown counts from `began` (by the monotonic clock; default: now). `leave` is called with the outcome
    where the cluster is lost and Ray is about to abort this process: it ends it.
    Raises `SpecError` and `StudyError` before anything is started or written.
    """
    with Progress(Console(stderr=False), plain, began=began) as progress, _sigterm_interrupts():
        spec, root = _study(target, root, [*overrides, *([f"search.trials={trials}"] if trials else [])])
        study_dir, is_new = open_folder(root, spec)
        refuse_held(study_dir)  # the owner makes sure of it, but Ray takes seconds to start
        for warning in warnings_of(spec):
            progress.message(f"warning: {warning}")
        remote = home.remote_of(study_dir)
        where = study_dir if remote is None else f"{remote}, from {study_dir}"
        progress.message(f"{'starting' if is_new else 'resuming'} study {spec.study} in {where}")
        progress.phase("starting Ray" if address is None else f"joining the Ray cluster at {address}")
        try:
            with RayCluster(address, cpus) as cluster:
                try:
                    return _run_on(cluster, spec, study_dir, progress, retry, leave)
                except KeyboardInterrupt:
                    progress.phase("stopping Ray")  # which may still be starting
                    raise
        except KeyboardInterrupt:
            return RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None)
        except (SweepError, PinnError):
            raise
        except Exception as problem:
            raise RunLostError(f"{log_exception(study_dir, 'driver', problem)}. {GO_ON}") from problem


def _study(target: Path, root: Path, overrides: Sequence[str]) -> tuple[StudySpec, Path]:
    """The study that a file, a folder or a place in an object store names, and the root it lies in."""
    target = home.local(target)
    if not target.is_dir():
        return load_spec(target, overrides), root
    study_dir = target.resolve()
    if not (study_dir / SPEC_FILE).is_file():
        raise StudyError(f"{target} is not a study: it has no {SPEC_FILE}")
    home.refresh(study_dir)
    spec = read_spec(study_dir, overrides)
    if spec.study != study_dir.name and not any(override.startswith("study=") for override in overrides):
        raise StudyError(
            f"{study_dir} holds the study {spec.study}, and a study's folder has its name. Rename the folder to "
            f"{spec.study}, or begin a study of another name from its {SPEC_FILE}: --set study=NAME"
        )
    return spec, home.root_of(study_dir)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: resumable, with exit code 130."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    echoes = Echoes()

    def interrupt(number: int, frame: object) -> None:
        if not echoes.hears_one():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_on(
    cluster: RayCluster,
    spec: StudySpec,
    study_dir: Path,
    progress: Progress,
    retry: Sequence[int],
    leave: Leave | None,
) -> RunOutcome:
    from .owner_actor import OwnerActor  # a second, while Ray starts

    ray = cluster.connected()
    view, shares = ClusterView(ray, spec), None
    view.check_fits(may_grow=cluster.is_shared)
    if cluster.is_shared:
        shares = Shares(ray, study_dir, spec.resources.priority, spec.resources.max_packs)
    pulse = Pulse(view, shares)
    try:
        progress.phase("opening the study, starting workers")
        owner = _start_owner(ray, OwnerActor, study_dir, pulse.capacity, spec, retry, is_shared=cluster.is_shared)
        if cluster.is_shared:
            _wait_begun(ray, owner)  # it takes the lock, which every node must see
            check_nodes(ray, study_dir)
        watcher = Watcher(
            ray,
            owner.actor,
            owner.begun,
            progress,
            pulse,
            study_dir,
            wait_min=spec.resources.wait_min,
            is_shared=cluster.is_shared,
            head_is_gone=cluster.head_is_gone,
            leave=leave and (lambda: leave(RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None))),
        )
        with watcher, watcher.stops_on_signals():
            hurried = _fit(ray, owner, study_dir, spec, view, pulse.capacity.device, is_shared=cluster.is_shared)
        _wait_begun(ray, owner)
        return _outcome(ray, owner, watcher, study_dir, progress, hurried=hurried)
    except ray.exceptions.RayError as problem:
        cause = "its process died" if isinstance(problem, ray.exceptions.ActorDiedError) else last_line(problem)
        raise RunLostError(f"the owner of {study_dir} is gone ({cause}). {GO_ON}") from None
    finally:
        pulse.stop()


def _outcome(
    ray: Any, owner: _Owner, watcher: Watcher, study_dir: Path, progress: Progress, *, hurried: bool
) -> RunOutcome:
    """How it ended, by what the owner says; raises `RunLostError` where something has cut the run short."""
    actor = owner.actor
    if watcher.owner_is_gone:
        raise RunLostError(f"the owner of {study_dir} is gone ({watcher.lost}). {GO_ON}")
    snapshot, broken = ray.get([actor.snapshot.remote(watcher.told), actor.broken.remote()])
    stopped = hurried or ray.get(actor.is_stopped.remote())
    counts = ray.get(actor.close.remote())
    if watcher.lost or broken:
        reason = watcher.lost or f"results could not be recorded ({broken})"
        raise RunLostError(f"{study_dir}: {reason}. {GO_ON}")
    progress.update(snapshot)
    left = snapshot["limit"] - sum(counts[state] for state in FINISHED)
    exit_code = EXIT_INTERRUPTED if stopped else EXIT_FAILURES if snapshot["failures"] else EXIT_DONE
    if left > 0 and not stopped:
        cause = snapshot["over_budget"] or "their packs could not be trained to the end"
        progress.message(f"{left} trials are unfinished: {cause}. {GO_ON}")
        exit_code = exit_code if snapshot["over_budget"] else EXIT_FAILURES
    return RunOutcome(exit_code, study_dir, counts, snapshot["best"])


@dataclass(frozen=True)
class _Owner:
    actor: Any
    name: str
    begun: Any  # the answer to come of its first call


def _start_owner(
    ray: Any,
    owner_class: type,
    study_dir: Path,
    capacity: ClusterCapacity,
    spec: StudySpec,
    retry: Sequence[int],
    *,
    is_shared: bool,
) -> _Owner:
    """Start the owner as an actor on this node, where the driver's files are, and let it begin."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"owner-{uuid.uuid4().hex[:12]}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(owner_class).options(name=name, num_cpus=0, scheduling_strategy=here).remote()
    options = {"driver_pid": os.getpid(), "retry": retry, "offered": 0 if is_shared else FIRST_SLOT}
    return _Owner(actor, name, actor.begin.remote(study_dir.absolute(), capacity, spec, **options))


def _wait_begun(ray: Any, owner: _Owner) -> None:
    """Wait until the owner has taken the study. Raises what kept it from that."""
    try:
        ray.get(owner.begun)
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, (SweepError, PinnError)):
            raise problem.cause from None
        raise
    except ray.exceptions.RayError as problem:
        raise StudyError(
            f"the study's owner could not be started on the cluster ({last_line(problem)}). Where the cluster has "
            "authentication off, set RAY_AUTH_MODE=disabled"
        ) from None


def _fit(
    ray: Any, owner: _Owner, study_dir: Path, spec: StudySpec, view: ClusterView, device: str, *, is_shared: bool
) -> bool:
    """Let Tune run workers until the owner has nothing left for them; returns whether it was cut short."""
    from ray import tune

    from .tune import SlotScheduler, SlotSearcher, SlotStopper, WorkerContext, slot_trainable

    here: str = ray.get_runtime_context().get_node_id()
    expected = expected_here(study_dir) if is_shared else Expected(None, False, {})
    context = WorkerContext(str(study_dir.absolute()), owner.name, NAMESPACE, here, expected, spec)
    first = None if is_shared else (FIRST_SLOT, device)

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        request = view.request(config["device"])
        return tune.PlacementGroupFactory([{name.upper(): amount for name, amount in request.items()}])

    with scratch_folder("tune") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(slot_trainable(context), resources),
            tune_config=tune.TuneConfig(
                search_alg=SlotSearcher(owner.actor, first),
                scheduler=SlotScheduler(owner.actor),
                num_samples=-1,
                reuse_actors=False,  # an actor kept for the next slot would keep its cores from other studies
            ),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=str(scratch),
                stop=SlotStopper(owner.actor),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return True
    return False
