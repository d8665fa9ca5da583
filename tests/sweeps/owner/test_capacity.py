"""The capacity of a cluster, the requests to Ray, and the requests that are withdrawn."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.errors import StudyError
from sweeps.owner.capacity import ASKED_BEYOND, ClusterCapacity
from sweeps.owner.owner import StudyOwner
from sweeps.owner.slots import SURPLUS_S
from sweeps.runner import cluster_view
from sweeps.runner.cluster_view import ClusterView
from sweeps.study.loading import load_spec, load_text
from tests.sweeps.spec.study_files import ELSEWHERE

from ..small import offered, prepare, write_study

HEAD: dict[str, float] = {"CPU": 0}


def view(
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[dict[str, float]],
    kinds: list[tuple[dict[str, float], int]] | None = None,
    **resources: Any,
) -> ClusterView:
    """Return a view of the present nodes and of the kinds of nodes that an autoscaler reports."""
    ray = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes])
    monkeypatch.setattr(cluster_view, "_node_kinds", lambda ray: kinds)
    spec = load_text(json.dumps({"study": "s", "search": {"trials": 9}, "resources": resources}), base=ELSEWHERE)
    return ClusterView(ray, spec)


def test_room_is_counted_node_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[dict[str, float]] = [{"CPU": 3}, {"CPU": 1}, HEAD]
    assert view(monkeypatch, nodes).look().places == 4
    assert view(monkeypatch, nodes, cpus_per_pack=2).look().places == 1
    shared = view(monkeypatch, [{"CPU": 8, "GPU": 2}, {"CPU": 8}], gpus_per_pack=1 / 3).look()
    assert (shared.places, shared.device) == (6, "cuda")


def test_the_report_of_an_autoscaler_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [({"CPU": 0.0}, 1), ({"CPU": 4.0}, 2), ({"CPU": 4.0, "GPU": 1.0}, 3)]
    assert view(monkeypatch, [HEAD], kinds[:2]).look() == ClusterCapacity(0, "cpu", grows=True, at_most=8)
    assert view(monkeypatch, [HEAD], kinds).look() == ClusterCapacity(0, "cuda", grows=True, at_most=3)
    assert view(monkeypatch, [HEAD], kinds, device="cpu").look().at_most == 20
    unlimited = view(monkeypatch, [HEAD], [({"CPU": 1.0}, -1)]).look()
    assert unlimited.grows and unlimited.at_most is None


def test_a_gpu_once_seen_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[dict[str, float]] = [{"CPU": 4}]
    cluster = view(monkeypatch, nodes)
    assert cluster.look() == ClusterCapacity(4, "cpu")
    nodes.append({"CPU": 1, "GPU": 1})
    assert cluster.look() == ClusterCapacity(1, "cuda")
    nodes.pop()
    assert cluster.look() == ClusterCapacity(0, "cuda") and "needs 1 core and 1 GPU" in cluster.missing()


def test_only_what_can_never_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match="no node can hold a pack of 2 cores; nodes have 1 core"):
        view(monkeypatch, [{"CPU": 1}], cpus_per_pack=2).check_fits(may_grow=False)
    with pytest.raises(StudyError, match="no node of the cluster has a GPU"):
        view(monkeypatch, [{"CPU": 1}], device="cuda").check_fits(may_grow=False)
    with pytest.raises(StudyError, match="no node can hold a pack of 8 cores"):
        view(monkeypatch, [HEAD], [({"CPU": 4.0}, 5)], cpus_per_pack=8).check_fits(may_grow=True)
    view(monkeypatch, [HEAD], cpus_per_pack=8).check_fits(may_grow=True)
    view(monkeypatch, [HEAD], [({"CPU": 8.0}, 5)], cpus_per_pack=8).check_fits(may_grow=True)


def test_a_gpu_chosen_by_its_index_has_one_process_and_none_of_rays_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[dict[str, float]] = [{"CPU": 8, "GPU": 4}]
    numbered = view(monkeypatch, nodes, device="cuda:2")
    assert numbered.look() == ClusterCapacity(1, "cuda:2") and numbered.request("cuda:2") == {"cpu": 1.0}
    assert view(monkeypatch, nodes, device="cuda:2", gpus_per_pack=0.25).look().places == 4
    assert view(monkeypatch, nodes, device="cuda:2", gpus_per_pack=2).look().places == 1
    assert view(monkeypatch, nodes).look() == ClusterCapacity(4, "cuda"), "one process each"
    numbered.check_fits(may_grow=False)
    with pytest.raises(StudyError, match=r"cuda:2 is a GPU of this machine, but on the cluster .* Use device: cuda"):
        numbered.check_fits(may_grow=True)


@pytest.mark.parametrize(
    ("capacity", "max_packs", "planned", "requests"),
    [
        (ClusterCapacity(2, "cpu"), None, 2, 2),
        (ClusterCapacity(2, "cpu"), 1, 1, 1),
        (ClusterCapacity(0, "cpu"), None, 1, 1),
        (ClusterCapacity(2, "cpu", grows=True, at_most=8), None, 8, 8),
        (ClusterCapacity(2, "cpu", grows=True, at_most=8), 4, 4, 4),
        (ClusterCapacity(2, "cpu", grows=True), None, 2, 2 + ASKED_BEYOND),
        (ClusterCapacity(0, "cpu", grows=True), 6, 6, 6),
    ],
)
def test_packs_planned_and_workers_requested(
    capacity: ClusterCapacity, max_packs: int | None, planned: int, requests: int
) -> None:
    assert (capacity.planned(max_packs), capacity.requests(max_packs)) == (planned, requests)


class TestRequests:
    """The owner's slots, on a cluster that grows."""

    @pytest.fixture
    def owner(self, tmp_path: Path) -> Any:
        spec = load_spec(write_study(tmp_path / "data", trials=6, pack=2))
        study_dir, _ = prepare(tmp_path, spec)
        self.now = 0.0
        owner = StudyOwner(study_dir, ClusterCapacity(0, "cpu", grows=True, at_most=8), spec, clock=lambda: self.now)
        yield owner
        owner.close()

    def slots(self, owner: StudyOwner) -> list[int]:
        return list(iter(lambda: offered(owner), None))

    def test_as_many_are_requested_as_the_trials_fill(self, owner: StudyOwner) -> None:
        assert self.slots(owner) == [1, 2, 3]
        assert owner.snapshot().requested == 3 and owner.snapshot().places == 0

    def test_unneeded_requests_are_withdrawn_after_a_while(self, owner: StudyOwner) -> None:
        slots = self.slots(owner)
        owner.lease(slots[0])
        assert owner.surplus() == ()
        owner.set_capacity(ClusterCapacity(2, "cpu", grows=True, at_most=2))
        assert owner.surplus() == ()
        self.now += SURPLUS_S
        assert owner.surplus() == (slots[2],) and owner.surplus() == ()

    def test_requests_of_another_device_are_withdrawn_at_once(self, owner: StudyOwner) -> None:
        slots = self.slots(owner)
        owner.set_capacity(ClusterCapacity(1, "cuda", grows=True, at_most=1))
        assert owner.surplus() == tuple(slots)
        offer: Any = owner.offer()
        assert offer.device == "cuda"
        assert not owner.lease(slots[0], None, "cpu").members, (
            "it was requested before the GPU was seen, and makes room"
        )
        assert owner.lease(offer.slot, None, "cuda").device == "cuda"

    def test_the_study_ends_where_no_machine_can_train_it(self, owner: StudyOwner) -> None:
        slots = self.slots(owner)
        owner.set_capacity(ClusterCapacity(2, "cpu"))
        owner.unfit(slots[0], "machine a has other code")
        assert owner.snapshot().broken is None and owner.snapshot().unfit == ["machine a has other code"]
        owner.unfit(slots[1], "machine b has other code")
        assert "no machine of the cluster can train this study: machine b has other code" in str(
            owner.snapshot().broken
        )


def test_packs_of_a_gpu_have_the_size_that_its_worker_measured(tmp_path: Path) -> None:
    spec = load_spec(write_study(tmp_path / "data", trials=100), ["resources.pack=auto"])
    study_dir, _ = prepare(tmp_path, spec)
    owner = StudyOwner(study_dir, ClusterCapacity(1, "cuda:1"), spec)
    offer: Any = owner.offer()
    assert not any(owner.snapshot().counts.values()), "no trial is planned before the size is known"
    owner.measured(16)
    owner.measured(32)
    task = owner.lease(offer.slot, None, "cuda:1")
    assert (task.device, task.size, len(task.members)) == ("cuda:1", 16, 16)
    owner.close()
