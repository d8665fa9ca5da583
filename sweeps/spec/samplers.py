"""What each sampler and each pruner is: one record each, which checks, texts and the search read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar


@dataclass(frozen=True, kw_only=True)
class SamplerTraits:
    """What a sampler is; `summary` explains its name in the study file."""

    summary: str = ""
    learns: bool = False  # from results: it prefers regions with good ones
    learns_from_others: bool = False  # from the trials of other studies too
    has_population: bool = False  # of `search.generation` members
    several_objectives: bool = True
    ranges_only: bool = False  # no choices
    every_combination: bool = False  # of a finite space, each once
    reads_list: bool = False  # the configurations under `search.list`

    @property
    def is_finite(self) -> bool:
        """Return whether the sampler has a number of trials of its own."""
        return self.every_combination or self.reads_list


@dataclass(frozen=True, kw_only=True)
class PrunerTraits:
    """What a kind of pruner is; `summary` explains its name in the study file, `keys` are those that it reads."""

    summary: str = ""
    keys: tuple[str, ...] = ()
    compares_at_rungs: bool = False  # and so depends on which trials reach a rung first
    watches_curve: bool = False  # of each training, whatever the others do


SAMPLERS: Final[Mapping[str, SamplerTraits]] = {
    "random": SamplerTraits(),
    "grid": SamplerTraits(summary="every combination, in an order drawn by the seed", every_combination=True),
    "qmc": SamplerTraits(summary="scrambled Sobol points, spread more evenly than random ones"),
    "tpe": SamplerTraits(learns=True, learns_from_others=True),
    "gp": SamplerTraits(summary="a Gaussian process", learns=True, learns_from_others=True, several_objectives=False),
    "cmaes": SamplerTraits(
        summary="ranges of numbers only", learns=True, has_population=True, several_objectives=False, ranges_only=True
    ),
    "nsga2": SamplerTraits(summary="genetic", learns=True, learns_from_others=True, has_population=True),
    "list": SamplerTraits(summary="those under search.list", reads_list=True),
}
PRUNERS: Final[Mapping[str, PrunerTraits]] = {
    "none": PrunerTraits(),
    "asha": PrunerTraits(
        summary="at each rung, the best 1/reduction of the trials that reached it go on",
        keys=("reduction", "rungs", "startup_trials"),
        compares_at_rungs=True,
    ),
    "hyperband": PrunerTraits(
        summary="asha in several brackets, the later ones with a later first rung",
        keys=("reduction", "rungs", "startup_trials", "brackets"),
        compares_at_rungs=True,
    ),
    "median": PrunerTraits(
        summary="a trial worse than the median at a rung ends", keys=("rungs", "startup_trials"), compares_at_rungs=True
    ),
    "patience": PrunerTraits(
        summary="a training that no longer improves ends", keys=("patience", "min_improvement"), watches_curve=True
    ),
}

Traits = TypeVar("Traits", SamplerTraits, PrunerTraits)


def names(table: Mapping[str, Traits], have: Callable[[Traits], bool], word: str = "and") -> str:
    """Return the names whose traits `have` is true of, as a text such as "tpe, gp and nsga2"."""
    return listing([name for name, traits in table.items() if have(traits)], word)


def listing(words: Iterable[str], last: str = "and") -> str:
    """Return words as a text, with `last` before the last one."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def summaries(table: Mapping[str, Traits], have: Callable[[Traits], bool], separator: str) -> str:
    """Return the names whose traits `have` is true of, each with its summary in parentheses."""
    chosen = {name: traits.summary for name, traits in table.items() if have(traits)}
    return separator.join(f"{name} ({summary})" if summary else name for name, summary in chosen.items())
