"""Problems that a member can be trained on: equation, point sets and units."""

from typing import Any

from .base import Jet as Jet
from .base import PointSet as PointSet
from .base import Predictor as Predictor
from .base import Problem as Problem
from .nonlocal_strain import NonlocalStrain as NonlocalStrain
from .nonlocal_strain import NonlocalStrainSettings as NonlocalStrainSettings

PROBLEMS: dict[str, type[Any]] = {NonlocalStrain.name: NonlocalStrainSettings}
