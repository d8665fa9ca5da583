"""The exact minimiser of the formulation by finite elements: their solution at the nodes."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CloughTocher2DInterpolator

from ..problems.columns import relative
from ..problems.nonlocal_strain import NonlocalStrain
from ..trained import TrainedNetwork
from .minimiser import Minimiser


def nodal_minimiser(problem: NonlocalStrain) -> Minimiser:
    """Return the finite-element solution, between the nodes as a smooth function reads it: piecewise cubic.

    A network with these nodal values is a smooth function through them, too.
    """
    nodes, points = problem.nodes.inputs, problem.field_points.inputs
    raw = CloughTocher2DInterpolator(nodes, problem.nodes.values["u_h"])(points)[None]
    error = problem.error(raw)
    assert error is not None
    return Minimiser("finite elements", len(nodes), 0.0, error, raw)


def nodal_errors(problem: NonlocalStrain, network: TrainedNetwork) -> tuple[float, float, float]:
    """Return three errors by shape functions: the network's, the exact minimiser's, and their distance."""
    assert problem.solution is not None
    (true,) = problem.solution
    exact = problem.finite_elements.read(problem.finite_elements.solution)
    found = problem.nodal_reading(network.raw(problem.nodes))
    distance = np.linalg.norm(found - exact) / np.linalg.norm(true)
    return relative(found, true), relative(exact, true), float(distance)
