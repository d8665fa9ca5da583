"""From a study to its sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ..spec.study_spec import StudySpec
from .cmaes import CmaEs
from .independent import Grid, Listed, QuasiRandom, Random
from .optuna_samplers import Gp, Nsga2, Tpe
from .proposals import PastTrial, Search

CLASSES: Final[Mapping[str, type[Search]]] = {
    "random": Random,
    "grid": Grid,
    "qmc": QuasiRandom,
    "tpe": Tpe,
    "gp": Gp,
    "cmaes": CmaEs,
    "nsga2": Nsga2,
    "list": Listed,
}


def search_of(spec: StudySpec, history: Iterable[PastTrial] = (), warm: Iterable[PastTrial] = ()) -> Search:
    """Return the trials of a study; `history` are those of earlier starts, `warm` those of other studies."""
    return CLASSES[spec.search.sampler](spec, history, warm)
