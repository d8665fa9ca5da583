"""Which trials share a pack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..search import Search
from ..spec.study_spec import StudySpec

WINDOW_PACKS = 8  # packs asked at once, so that members of one shape find each other
LARGEST_PACK = {"cpu": 4, "cuda": 64}  # on a CPU a few members hide what a step costs in Python; more gain nothing


@dataclass(frozen=True)
class Asked:
    """A trial between the sampler and the database."""

    number: int
    key: tuple[str, ...]
    width: int
    steps: int


def pack_size(spec: StudySpec, limit: int, *, at_once: int, device: str) -> int:
    """Members of a pack: what the study file says, or as many as share all members fairly among packs at once."""
    if spec.resources.pack != "auto":
        return spec.resources.pack
    members = limit * spec.search.replicates
    return max(1, min(-(-members // at_once), LARGEST_PACK[device]))


def trials_of_pack(size: int, replicates: int) -> int:
    """Trials whose replicates fill a pack of `size` members."""
    return max(1, size // replicates)


def window_size(search: Search, first: int, size: int, replicates: int) -> int:
    """Trials asked in one go from place `first` on; a sampler that learns is asked for one pack or one generation."""
    generation = search.generation_of(first)
    if len(generation) > 1:
        return generation.stop - first
    return trials_of_pack(size, replicates) * (1 if search.learns else WINDOW_PACKS)


def grouped(asked: Sequence[Asked], size: int) -> list[list[Asked]]:
    """Packs of trials of one shape, of similar width (padding is wasted work), the costliest pack first."""
    by_key: dict[tuple[str, ...], list[Asked]] = {}
    for trial in asked:
        by_key.setdefault(trial.key, []).append(trial)
    packs = []
    for members in by_key.values():
        members.sort(key=lambda trial: (-trial.width, -trial.steps, trial.number))
        packs += [members[start : start + size] for start in range(0, len(members), size)]
    return sorted(packs, key=lambda pack: (-pack[0].width * pack[0].steps * len(pack), pack[0].number))
