"""Problems that a member can be trained on: equation, point sets and units."""

from .base import Column as Column
from .base import Jet as Jet
from .base import Metric as Metric
from .base import PointSet as PointSet
from .base import Predictor as Predictor
from .base import Problem as Problem
from .nonlocal_strain import NonlocalStrain as NonlocalStrain

PROBLEMS: dict[str, type[Problem]] = {NonlocalStrain.name: NonlocalStrain}
