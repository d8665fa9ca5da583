"""The planning of packs: how many members they have and which trials share one.

What it needs of a trial is worked out once, with its configuration, and kept on the trial until it is finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pinncore
from pinncore.member import engine_of
from pinncore.settings import ENGINE_TRAITS

from ..machine import kind_of
from ..search import Search
from ..spec.study_spec import StudySpec, build_settings
from ..study.trials import PackingTraits, Trial, TrialSetup

WINDOW_PACKS = 8  # packs planned at once, so that trials of one shape can share a pack
# on a CPU a few members hide the cost of Python, and more gain nothing; of a GPU that was not measured
LARGEST_PACK = {"cpu": 4, "cuda": 64}


def traits_of(member: pinncore.Member) -> PackingTraits:
    """Return what decides which other trials may share a pack with this member."""
    train, engines = member.train, {"cpu": engine_of(member, "cpu")[0]}
    with contextlib.suppress(pinncore.SettingError):  # it cannot train on a GPU
        engines["cuda"] = engine_of(member, "cuda")[0]
    padded = frozenset(kind for kind, engine in engines.items() if ENGINE_TRAITS[engine].pads)
    # on a GPU, width decides the engine too, and a pack has one engine
    key = (*pinncore.pack_key(member), engines.get("cuda", ""))
    return PackingTraits(key, train.width, train.epochs + train.iterations, padded)


def set_up(spec: StudySpec, params: Mapping[str, Any]) -> TrialSetup:
    """Return the setup of a configuration; one that cannot be trained has a `failure`."""
    config = spec.config(params)
    try:
        return TrialSetup(config, traits_of(pinncore.Member(*build_settings(config, spec.source))))
    except pinncore.PinnError as problem:
        return TrialSetup(config, failure=str(problem))


def setup_of(spec: StudySpec, trial: Trial) -> TrialSetup:
    """Return the setup of a trial."""
    if trial.setup is None:
        trial.setup = set_up(spec, trial.params)
    return trial.setup


def depends_on_pack(spec: StudySpec, trial: Trial, device: str) -> bool:
    """Return whether the last digits of a trial's results depend on its pack, which then must not change."""
    traits = setup_of(spec, trial).traits
    return traits is not None and kind_of(device) in traits.padded_on


def pack_size(spec: StudySpec, limit: int, *, at_once: int, device: str, measured: int | None = None) -> int:
    """Return the number of members of a pack: the setting, or all members divided by the packs that train at once.

    `measured` is the largest pack that is worth it on the GPU, None where that was not measured.
    """
    if spec.resources.pack != "auto":
        return spec.resources.pack
    members = limit * spec.search.replicates
    kind = kind_of(device)
    most = LARGEST_PACK[kind] if measured is None or kind == "cpu" else measured
    return max(1, min(-(-members // at_once), most))


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


def grouped(traits: Mapping[int, PackingTraits], size: int) -> list[list[int]]:
    """Return packs of trials, by number, of one key and similar width, the costliest pack first.

    Widths are similar because padding is wasted work. `size` is the number of trials of a pack.
    """
    by_key: dict[tuple[str, ...], list[int]] = {}
    for number, trial in traits.items():
        by_key.setdefault(trial.key, []).append(number)
    packs = []
    for numbers in by_key.values():
        numbers.sort(key=lambda number: (-traits[number].width, -traits[number].steps, number))
        packs += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return sorted(packs, key=lambda pack: (-traits[pack[0]].width * traits[pack[0]].steps * len(pack), pack[0]))
