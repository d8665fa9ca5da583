"""Driver of `pinnsweep run`: a new Tuner for the study's owner. Running a study again resumes it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.scratch import scratch_folder
from pinncore.errors import PinnError

from ..errors import RunLostError, StudyError, SweepError
from ..machine import kind_of
from ..owner.slots import SlotOffer
from ..owner.snapshot import BestTrial, StudySnapshot
from ..spec.study_spec import StudySpec
from ..states import FINISHED
from ..storage.lock import refuse_held
from ..study import home
from ..study.folder import open_folder
from ..study.input_checks import warnings_of
from ..study.loading import load_spec, read_spec
from ..study.log import log_exception
from ..study.study_file import SPEC_FILE
from ..trackers.outlets import Outlets, refuse_unready
from .cluster_view import ClusterView
from .fair_share import Shares
from .preflight import Expected, check_nodes, expected_here, last_line
from .progress import Progress
from .ray_cluster import RayCluster, on_node
from .watcher import Pulse, Watcher, on_signals

if TYPE_CHECKING:
    from .tune import WorkerContext

RESUME = "Run the study again to resume it"
RESTARTS = 3  # of a worker in its slot; the owner gives up on members long before
FIRST_SLOT = 1  # its worker starts on this machine while the owner opens the study
EXIT_DONE, EXIT_FAILURES, EXIT_INTERRUPTED = 0, 1, 130


@dataclass(frozen=True)
class RunOutcome:
    """Outcome of a run: exit code 0 where all trials are complete, 1 where some failed, 130 if interrupted."""

    exit_code: int
    study_dir: Path
    counts: dict[str, int]
    best: BestTrial | None


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
    """Train a study's trials, or resume them; `target` is a study file or a study folder.

    The time shown counts from `began` on the monotonic clock (default: now). `leave` is called with the outcome where
    the cluster is lost and Ray is about to abort this process; it must end the process.
    Raises `SpecError` and `StudyError` before anything is started or written, `RunLostError` where the run is cut
    short.
    """
    console = Console(force_jupyter=False)  # in a notebook, rich would make every line an output of its own
    with Progress(console, plain, began=began) as progress, on_signals([signal.SIGTERM], _interrupt):
        spec, root = _study(target, root, [*overrides, *([f"search.trials={trials}"] if trials else [])])
        refuse_unready(spec)
        study_dir, is_new = open_folder(root, spec)
        refuse_held(study_dir)  # the owner checks this too, but only after Ray has started
        for warning in warnings_of(spec):
            progress.message(f"warning: {warning}")
        remote = home.remote_of(study_dir)
        place = study_dir if remote is None else f"{remote}, from {study_dir}"
        progress.message(f"{'starting' if is_new else 'resuming'} study {spec.study} in {place}")
        progress.phase("starting Ray" if address is None else f"joining the Ray cluster at {address}")
        with Outlets(spec, study_dir, remote, progress.message) as outlets:
            try:
                with RayCluster(address, cpus) as cluster:
                    try:
                        return _run_on(cluster, spec, study_dir, progress, outlets, retry, leave)
                    except KeyboardInterrupt:
                        progress.phase("stopping Ray")  # which may still be starting
                        raise
            except KeyboardInterrupt:
                return RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None)
            except (SweepError, PinnError):
                raise
            except Exception as problem:
                raise RunLostError(f"{log_exception(study_dir, 'driver', problem)}. {RESUME}") from problem


def _study(target: Path, root: Path, overrides: Sequence[str]) -> tuple[StudySpec, Path]:
    """Return the study of a study file, a folder or a URI of an object store, and the root it lies in."""
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
            f"{study_dir} holds the study {spec.study}, but a study and its folder must have the same name. Rename the "
            f"folder to {spec.study}, or start a study of another name from its {SPEC_FILE}: --set study=NAME"
        )
    return spec, home.root_of(study_dir)


def _interrupt(is_echo: bool) -> None:
    if not is_echo:
        raise KeyboardInterrupt


def _run_on(
    cluster: RayCluster,
    spec: StudySpec,
    study_dir: Path,
    progress: Progress,
    outlets: Outlets,
    retry: Sequence[int],
    leave: Leave | None,
) -> RunOutcome:
    from .owner_actor import OwnerActor  # takes a second, while Ray starts

    ray = cluster.connected()
    view, shares = ClusterView(ray, spec), None
    view.check_fits(may_grow=cluster.is_shared)
    if cluster.is_shared:
        shares = Shares(ray, study_dir, spec.resources.priority, spec.resources.max_packs)
    pulse = Pulse(view, shares)
    try:
        if kind_of(pulse.capacity.device) == "cuda":
            from .precompile import looked_at, other_engines  # needs torch, which a driver does without otherwise

            for reason in other_engines(looked_at(spec), pulse.capacity.device):
                progress.message(f"warning: {reason}")
        progress.phase("opening the study, starting workers")
        node, name = ray.get_runtime_context().get_node_id(), f"owner-{uuid.uuid4().hex[:12]}"
        owner = ray.remote(OwnerActor).options(name=name, **on_node(node)).remote()  # where the driver's files are
        first = None if cluster.is_shared else SlotOffer(FIRST_SLOT, pulse.capacity.device)
        options = {"driver_pid": os.getpid(), "retry": retry, "offered": FIRST_SLOT if first else 0}
        begun = owner.begin.remote(study_dir.absolute(), pulse.capacity, spec, **options)
        expected = Expected(None, False, {})
        if cluster.is_shared:
            _wait_begun(ray, begun)  # the owner takes the lock, which every node must see
            check_nodes(ray, study_dir)
            expected = expected_here(study_dir)

        def left() -> None:
            assert leave is not None
            outlets.lost("the Ray cluster is gone")
            leave(RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None))

        watcher = Watcher(
            ray,
            owner,
            begun,
            progress,
            pulse,
            study_dir,
            cluster,
            wait_min=spec.resources.wait_min,
            leave=None if leave is None else left,
            tell=outlets.update,
        )
        with watcher, watcher.stops_on_signals():
            from .tune import WorkerContext

            context = WorkerContext(str(study_dir.absolute()), name, node, expected, spec)
            is_cut_short = _fit(owner, context, view, first)
        _wait_begun(ray, begun)
        return _outcome(ray, owner, watcher, study_dir, progress, outlets, is_cut_short=is_cut_short)
    except ray.exceptions.RayError as problem:
        cause = "its process died" if isinstance(problem, ray.exceptions.ActorDiedError) else last_line(problem)
        raise RunLostError(f"the owner of {study_dir} is gone ({cause}). {RESUME}") from None
    finally:
        pulse.stop()


def _wait_begun(ray: Any, begun: Any) -> None:
    """Wait until the owner has opened the study, the answer to its first call. Raises the error that prevented it."""
    try:
        ray.get(begun)
    except ray.exceptions.RayTaskError as problem:
        if isinstance(problem.cause, (SweepError, PinnError)):
            raise problem.cause from None
        raise
    except ray.exceptions.RayError as problem:
        raise StudyError(
            f"the study's owner could not be started on the cluster ({last_line(problem)}). The logs of Ray's session "
            "say more"
        ) from None


def _fit(owner: Any, context: WorkerContext, view: ClusterView, first: SlotOffer | None) -> bool:
    """Let Tune run workers until the owner has nothing left for them. Return whether Ctrl-C cut it short."""
    from ray import tune

    from .tune import NoReport, SlotScheduler, SlotSearcher, SlotStopper, slot_trainable

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        request = view.request(config["device"])
        return tune.PlacementGroupFactory([{name.upper(): amount for name, amount in request.items()}])

    with scratch_folder("tune") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(slot_trainable(context), resources),
            tune_config=tune.TuneConfig(
                search_alg=SlotSearcher(owner, first),
                scheduler=SlotScheduler(owner),
                num_samples=-1,
                reuse_actors=False,  # an actor kept for the next slot would keep its cores from other studies
            ),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=str(scratch),
                stop=SlotStopper(owner),
                verbose=0,
                progress_reporter=NoReport(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            return True
    return False


def _outcome(
    ray: Any,
    owner: Any,
    watcher: Watcher,
    study_dir: Path,
    progress: Progress,
    outlets: Outlets,
    *,
    is_cut_short: bool,
) -> RunOutcome:
    """Return the outcome of a run as its owner sees it. Raises `RunLostError` where the run was lost."""
    if watcher.owner_is_gone:
        raise RunLostError(f"the owner of {study_dir} is gone ({watcher.lost}). {RESUME}")
    snapshot: StudySnapshot
    snapshot, counts = ray.get([owner.snapshot.remote(watcher.shown_count), owner.close.remote()])
    stopped = is_cut_short or snapshot.is_stopped
    if watcher.lost or snapshot.broken:
        reason = watcher.lost or f"results could not be recorded ({snapshot.broken})"
        raise RunLostError(f"{study_dir}: {reason}. {RESUME}")
    progress.update(snapshot)
    for line in outlets.update(snapshot):
        progress.message(line)
    left = snapshot.limit - sum(counts[state] for state in FINISHED)
    exit_code = EXIT_INTERRUPTED if stopped else EXIT_FAILURES if snapshot.failures else EXIT_DONE
    reason = "stopped" if stopped else "finished"
    if left > 0 and not stopped:
        reason = "over budget" if snapshot.over_budget else "unfinished"
        cause = snapshot.over_budget or "their packs could not be trained to the end"
        progress.message(f"{left} trials are unfinished: {cause}. {RESUME}")
        exit_code = exit_code if snapshot.over_budget else EXIT_FAILURES
    outlets.end(reason, snapshot.over_budget or "" if reason == "over budget" else "")
    return RunOutcome(exit_code, study_dir, counts, snapshot.best)
