"""Regions of one to four coordinates: where an equation and its conditions hold, and the points drawn there."""

from __future__ import annotations

from .grids import field_grid as field_grid
from .region import Region as Region
from .samplers import SAMPLERS as SAMPLERS
from .shapes import Ball as Ball
from .shapes import Box as Box
from .shapes import Disk as Disk
from .slices import At as At
from .solids import Boundary as Boundary
from .solids import Solid as Solid
from .table import Table as Table
