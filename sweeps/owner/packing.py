"""The planning of packs: how many members they have and which trials share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..search import Search
from ..spec.study_spec import StudySpec

WINDOW_PACKS = 8  # packs planned at once, so that trials of one shape can share a pack
LARGEST_PACK = {"cpu": 4, "cuda": 64}  # on a CPU a few members hide the cost of Python; more gain nothing


@dataclass(frozen=True)
class Asked:
    """A trial that the sampler has proposed and no pack has yet."""

    number: int
    key: tuple[str, ...]
    width: int
    steps: int


def pack_size(spec: StudySpec, limit: int, *, at_once: int, device: str) -> int:
    """Return the number of members of a pack: the setting, or all members divided by the packs that train at once."""
    if spec.resources.pack != "auto":
        return spec.resources.pack
    members = limit * spec.search.replicates
    return max(1, min(-(-members // at_once), LARGEST_PACK[device]))


def trials_of_pack(size: int, replicates: int) -> int:
    """Return the number of trials whose replicates fill a pack of `size` members, at least one."""
    return max(1, size // replicates)


def window_size(search: Search, first: int, size: int, replicates: int) -> int:
    """Return the number of trials to propose at once from index `first`.

    A sampler that learns proposes one generation or one pack, others `WINDOW_PACKS` packs.
    """
    generation = search.generation_of(first)
    if len(generation) > 1:
        return generation.stop - first
    return trials_of_pack(size, replicates) * (1 if search.traits.learns else WINDOW_PACKS)


def grouped(asked: Sequence[Asked], size: int) -> list[list[Asked]]:
    """Return packs of trials of one shape and similar width, the costliest pack first.

    Widths are similar because padding is wasted work. `size` is the number of trials of a pack.
    """
    by_key: dict[tuple[str, ...], list[Asked]] = {}
    for trial in asked:
        by_key.setdefault(trial.key, []).append(trial)
    packs = []
    for trials in by_key.values():
        trials.sort(key=lambda trial: (-trial.width, -trial.steps, trial.number))
        packs += [trials[start : start + size] for start in range(0, len(trials), size)]
    return sorted(packs, key=lambda pack: (-pack[0].width * pack[0].steps * len(pack), pack[0].number))
