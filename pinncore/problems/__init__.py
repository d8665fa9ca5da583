"""Problems that a member can be trained on: equation, point sets and units. Any module here may hold one."""

import importlib
import pkgutil

from .base import Column as Column
from .base import Jet as Jet
from .base import Metric as Metric
from .base import PointSet as PointSet
from .base import Predictor as Predictor
from .base import Problem as Problem
from .base import Yardstick as Yardstick
from .nonlocal_strain import NonlocalStrain as NonlocalStrain

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

# by name, in the order of import: the first is the one of study files that name none
PROBLEMS: dict[str, type[Problem]] = {problem.name: problem for problem in Problem.__subclasses__()}
