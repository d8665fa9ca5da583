"""`pinnsweep run`: a fresh Tuner over the study's owner. Running a study again is resuming it."""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pinncore.errors import PinnError

from . import homes
from .asking import Machines
from .errors import RunLostError, StudyError, SweepError
from .folder import SPEC_FILE, open_folder, read_spec
from .live import Progress
from .lock import refuse_held
from .machine import available_cpus, device_of
from .preflight import check_nodes, expected_here
from .shares import Shares
from .spec import StudySpec, load_spec
from .study import StudyOwner
from .trials import FINISHED

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",  # a local cluster is for its user alone; the token is made and found by Ray
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own progress tables: ours say more
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
AUTO = "auto"  # instead of an address: where RAY_ADDRESS points, or the cluster this machine belongs to
ADDRESS_TIMEOUT_S = 5.0
_GO_ON = "Mend what is wrong and run the study again: it goes on where it was"
LOOK_S = 0.5  # between two looks at the owner for the progress view
OWNER_PATIENCE_S = 30.0  # without an answer from the owner
STOP_PATIENCE_S = 60.0  # for workers to finish their stretch
RESTARTS = 3  # of a worker in its lane; the owner gives up on members long before
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
    retry: Sequence[int] = (),
) -> RunOutcome:
    """Train a study's trials, or go on with them; `target` is a study file or a study folder.

    Raises `SpecError` and `StudyError` before anything is started or written.
    """
    spec, root = _study(target, root, [*overrides, *([f"search.trials={trials}"] if trials else [])])
    study_dir, is_new = open_folder(root, spec)
    refuse_held(study_dir)  # the owner makes sure of it, but Ray takes seconds to start
    with Progress(Console(stderr=False), plain=plain) as progress:
        for warning in spec.warnings:
            progress.message(f"warning: {warning}")
        remote = homes.remote_of(study_dir)
        where = study_dir if remote is None else f"{remote}, from {study_dir}"
        progress.message(f"{'starting' if is_new else 'resuming'} study {spec.study} in {where}")
        try:
            # twice: ray.init puts a handler of its own in place of the first
            with _sigterm_interrupts():
                if address is None:
                    from .compiling import compile_ahead  # with torch, which the owner does without

                    compile_ahead(spec)
                with _ray(address, cpus) as ray, _sigterm_interrupts():
                    return _run_on(ray, spec, study_dir, progress, retry, address is not None)
        except (KeyboardInterrupt, SystemExit):  # while it starts, Ray turns SIGTERM into SystemExit
            return RunOutcome(EXIT_INTERRUPTED, study_dir, {}, None)


def _study(target: Path, root: Path, overrides: Sequence[str]) -> tuple[StudySpec, Path]:
    """The study that a file, a folder or a place in an object store names, and the root it lies in."""
    target = homes.local(target)
    if not target.is_dir():
        return load_spec(target, overrides), root
    study_dir = target.resolve()
    if not (study_dir / SPEC_FILE).is_file():
        raise StudyError(f"{target} is not a study: it has no {SPEC_FILE}")
    homes.refresh(study_dir)
    spec = read_spec(study_dir, overrides)
    if spec.study != study_dir.name and not any(override.startswith("study=") for override in overrides):
        raise StudyError(
            f"{study_dir} holds the study {spec.study}, and a study's folder has its name. Rename the folder to "
            f"{spec.study}, or begin a study of another name from its {SPEC_FILE}: --set study=NAME"
        )
    return spec, homes.root_of(study_dir)


@contextlib.contextmanager
def _ray(address: str | None, cpus: int | None) -> Iterator[Any]:
    """A Ray cluster for the length of a run: a local one on the granted cores, or the one at `address`."""
    if "ray" in sys.modules and not address and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "disabled"  # Ray read it when it was imported
        warnings.warn(
            "ray was imported before the sweep began, so the local cluster has no token and every user of this "
            "machine can reach it. Set RAY_AUTH_MODE=token before the import",
            stacklevel=2,
        )
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
    if address == AUTO:  # a job of a cluster finds it in its environment, or Ray on its machine
        address = os.environ.get("RAY_ADDRESS", "")
        if not address or address == AUTO:
            return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StudyError(
            "--address: must be HOST:PORT of a Ray head node (its port is 6379 by default), or auto for the cluster of "
            f"RAY_ADDRESS or of this machine, got {address!r}"
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


def _run_on(
    ray: Any, spec: StudySpec, study_dir: Path, progress: Progress, retry: Sequence[int], shared: bool
) -> RunOutcome:
    machines, resources = _placement(ray, spec)
    owner = _start_owner(ray, study_dir, machines, spec, retry)
    shares = Shares(ray, study_dir, spec.resources.priority, machines.slots) if shared else None
    try:
        if shared:
            check_nodes(ray, study_dir)
        with _Watcher(ray, owner.actor, progress, shares, resources) as watcher, watcher.stops_on_signals():
            hurried = _fit(ray, owner, study_dir, machines, resources)
        actor = owner.actor
        snapshot, broken = ray.get([actor.snapshot.remote(watcher.told), actor.broken.remote()])
        stopped = hurried or ray.get(actor.is_stopped.remote())
        counts = ray.get(actor.close.remote())
    except ray.exceptions.RayError as problem:
        cause = "its process died" if isinstance(problem, ray.exceptions.ActorDiedError) else _last_line(problem)
        raise RunLostError(f"the owner of {study_dir} is gone ({cause}). {_GO_ON}") from None
    if watcher.lost_owner:
        raise RunLostError(f"the owner of {study_dir} gave no answer for {OWNER_PATIENCE_S:g} s. {_GO_ON}")
    if broken:
        raise RunLostError(f"{study_dir}: results could not be recorded ({broken}). {_GO_ON}")
    progress.update(snapshot)
    left = snapshot["limit"] - sum(counts[state] for state in FINISHED)
    exit_code = EXIT_INTERRUPTED if stopped else EXIT_FAILURES if snapshot["failures"] else EXIT_DONE
    if left > 0 and not stopped:
        cause = snapshot["over_budget"] or "their packs could not be trained to the end"
        progress.message(f"{left} trials are unfinished: {cause}. Run the study again to go on")
        exit_code = exit_code if snapshot["over_budget"] else EXIT_FAILURES
    return RunOutcome(exit_code, study_dir, counts, snapshot["best"])


def _placement(ray: Any, spec: StudySpec) -> tuple[Machines, dict[str, float]]:
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
    return Machines(_places(ray, resources), device), resources


def _places(ray: Any, resources: dict[str, float]) -> int:
    """Packs that the cluster has room for now, at least one."""
    total = ray.cluster_resources()
    room = [int(total.get(name.upper(), 0) // wanted) for name, wanted in resources.items() if wanted > 0]
    return max(min(room), 1)


@dataclass(frozen=True)
class _Owner:
    actor: Any
    name: str


class _OwnerActor(StudyOwner):
    """The owner as Ray holds it: begun by a call, because an error in an actor's constructor loses its type."""

    def __init__(self) -> None:
        pass

    def begin(
        self, study_dir: Path, machines: Machines, spec: StudySpec, *, driver_pid: int, retry: Sequence[int]
    ) -> None:
        """Take the study. Raises what `StudyOwner` raises."""
        super().__init__(study_dir, machines, spec, driver_pid=driver_pid, retry=retry, is_alive=_is_alive)


def _is_alive(node: str) -> bool:
    import ray

    nodes: Any = ray.nodes  # untyped in Ray
    return any(each["NodeID"] == node and each["Alive"] for each in nodes())


def _start_owner(ray: Any, study_dir: Path, machines: Machines, spec: StudySpec, retry: Sequence[int]) -> _Owner:
    """The owner as an actor on this node, where the driver's files are."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"owner-{uuid.uuid4().hex[:12]}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(_OwnerActor).options(name=name, num_cpus=0, scheduling_strategy=here).remote()
    try:
        ray.get(actor.begin.remote(study_dir.absolute(), machines, spec, driver_pid=os.getpid(), retry=retry))
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


def _fit(ray: Any, owner: _Owner, study_dir: Path, machines: Machines, resources: dict[str, float]) -> bool:
    """Let Tune run workers until the owner has nothing left for them; returns whether it was cut short."""
    # Tune's default for a searcher of our own is one at a time
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(machines.slots)
    from ray import tune

    from .tune import LaneSearcher, LaneStopper, WorkerContext, lane_trainable

    here: str = ray.get_runtime_context().get_node_id()
    context = WorkerContext(str(study_dir.absolute()), owner.name, "pinnsweep", here, expected_here(study_dir))
    with tempfile.TemporaryDirectory(prefix="pinnsweep-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(lane_trainable(context), resources),
            # an actor kept for the next lane would keep its cores from other studies
            tune_config=tune.TuneConfig(search_alg=LaneSearcher(owner.actor), num_samples=-1, reuse_actors=False),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=scratch,
                stop=LaneStopper(owner.actor),
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


class _Watcher:
    """While Tune holds the main thread: shows the owner's snapshots, hands on signals, keeps the study's share.

    The first signal lets every worker finish its stretch and write a checkpoint; the second, or STOP_PATIENCE_S, ends
    the run at once.
    """

    def __init__(
        self, ray: Any, actor: Any, progress: Progress, shares: Shares | None, resources: dict[str, float]
    ) -> None:
        self._ray, self._actor, self._progress, self._shares = ray, actor, progress, shares
        self._resources = resources
        self._over, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.told = 0  # finished trials that were shown
        self.lost_owner = False

    def __enter__(self) -> _Watcher:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    @contextlib.contextmanager
    def stops_on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM stop the study; the second one raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            if self._stopping.is_set():
                raise KeyboardInterrupt
            self._stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self) -> None:
        deadline: float | None = None
        heard = time.monotonic()
        while not self._over.wait(LOOK_S):
            try:
                if self._stopping.is_set() and deadline is None:
                    self._ray.get(self._actor.stop.remote())
                    deadline = time.monotonic() + STOP_PATIENCE_S
                    self._progress.message(
                        "stopping: the running stretch is finished and saved; once more to stop at once"
                    )
                snapshot = self._ray.get(self._actor.snapshot.remote(self.told))
                self._progress.update(snapshot)
                self.told = snapshot["finished_count"]
                if self._shares:
                    lanes = self._shares.lanes(is_hungry=bool(snapshot["counts"]["WAITING"]))
                    self._actor.share.remote(lanes, _places(self._ray, self._resources))
                heard = time.monotonic()
            except self._ray.exceptions.RayError as problem:
                died = isinstance(problem, self._ray.exceptions.ActorDiedError)
                if not died and time.monotonic() < heard + OWNER_PATIENCE_S:
                    continue  # a busy cluster may not get through to it for a moment
                if not self._over.is_set():  # the owner is gone, but Tune would start its workers again
                    self.lost_owner = True
                    self._stopping.set()
                    _thread.interrupt_main()
                return
            if deadline is not None and time.monotonic() > deadline:
                _thread.interrupt_main()
                return
