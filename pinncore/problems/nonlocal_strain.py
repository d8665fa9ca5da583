"""The non-local equivalent strain of gradient-enhanced damage, a screened Poisson equation.

    u - g (u_xx + u_yy) = e   in the plate,    u_x = 0 on left/right,    u_y = 0 on bottom/top

u: non-local strain (the network's output), e: local equivalent strain (data), both dimensionless; g = l_c^2/2 in mm^2.
Peerlings et al. (1996), eq. 12. The loss is the published one, the sum of the L2 norms of the three residuals, neither
averaged nor squared; or the sum of their mean squares.

With `formulation` fe, the loss is that of the finite-element equations K u = F for the network's values at the nodes:
R' K^-1 R / 2 with R = K u - F, which equals (u - u_h)' K (u - u_h) / 2 for u_h = K^-1 F, the energy above its minimum.
K is factored once, for u_h, and an evaluation takes one product with K. Zero flux is natural: no boundary terms.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Doc

from ..data.loading import load_data, no_tables
from ..data.points import FieldData, Points
from ..data.tables import NAMES
from ..equations.conditions import Condition
from ..errors import DataError, SettingError
from ..settings import NonNegativeFloat, PositiveFloat
from .base import Predictor, Problem
from .columns import (
    HELDOUT_RESIDUAL,
    MAX_ERROR,
    OVER_CONSTANT,
    REL_L2,
    SPREAD,
    TRAINED_RESIDUAL,
    Array,
    Column,
    Line,
    Metric,
    PointSet,
    Yardstick,
    relative,
)

if TYPE_CHECKING:
    from ..equations.channels import Group
    from ..fem.discrete import Discrete

INPUT_SETS = (("x", "y"), ("x", "y", "g", "elocal"))
PROCESS_ZONE_X_MM, PROCESS_ZONE_Y_MM = (25.0, 47.5), 2.5
NOTCHES: dict[str, tuple[Line, ...]] = {"strb100": (((0.0, 0.0), (30.0, 0.0)),)}  # of bundled data, in mm

LIMITS = {  # of bundled data: what the differential equation leaves; the reference solves the discrete one
    "strb100": Yardstick("the strong form solved on a fine grid, with e linear between the Gauss points", 0.0042, True)
}


REL_L2_NODAL = Metric(
    "rel_l2_nodal",
    "`rel_l2` of the network's values at the nodes, read by the shape functions of the finite elements; null where the "
    "Gauss points belong to no mesh",
    needs_reference=True,
    is_percent=True,
    is_key=True,
)
_STRONG_ONLY = ("loss", "boundary_weight", "batch")  # settings without meaning in the formulation fe


class NonlocalStrain(Problem):
    """Non-local equivalent strain of gradient-enhanced damage, on one data set.

    `scale_scope` says what `scale_factor` s multiplies: `consistent` (network inputs s (x - 50)/50, g by s^2, so the
    equation is unchanged), `all` (every raw input, which solves another equation: effective g/s) or `elocal` (elocal
    only, of the raw inputs). The last two reproduce published mistakes and are labelled so. Points, metrics and fields
    raise `DataError` where the data cannot be read.
    """

    name = "nonlocal_strain"
    referenced = ("residual", "lrb", "btb")
    sized = ("u",)
    term_meanings = {
        "residual": "of the equation inside the plate",
        "lrb": "of the left and right boundary, before boundary_weight",
        "btb": "of the bottom and top boundary, before boundary_weight",
        "energy": "of the finite-element equations, (u - u_h)' K (u - u_h) / 2 at the nodes; formulation fe",
    }
    quantity = "non-local equivalent strain"
    outputs = (Column("u", "u"),)
    coordinates = (Column("x", "x_mm", "mm", NAMES["x"]), Column("y", "y_mm", "mm", NAMES["y"]))
    known = (Column("g", "g_mm2", "mm^2", NAMES["g"]), Column("elocal", "elocal", "1", NAMES["elocal"]))
    shown = (Column("elocal", "local"),)
    metrics = (
        REL_L2,
        MAX_ERROR,
        Metric(
            "paper_metric",
            "Square root of the sum of squared relative errors at the points; divide it by the square root of their "
            "number for an RMS",
            needs_reference=True,
        ),
        Metric(
            "process_zone_error",
            "`rel_l2` in the process zone ahead of the notch tip, 25 < x < 47.5 mm, y < 2.5 mm",
            needs_reference=True,
            is_percent=True,
        ),
        REL_L2_NODAL,
        Metric(
            "process_zone_error_nodal",
            "`rel_l2_nodal` in the process zone",
            needs_reference=True,
            is_percent=True,
        ),
        Metric(
            "distance_to_local",
            "Relative L2 distance of the prediction from the local strain; near 0 it is the identity trap",
            is_percent=True,
            is_objective=False,
        ),
        Metric("mean_abs_du_de", "Mean of abs(du/de); null where the local strain is not an input", is_objective=False),
        HELDOUT_RESIDUAL,
        TRAINED_RESIDUAL,
        SPREAD,
        OVER_CONSTANT,
        Metric(
            "effective_g_mm2",
            "The g of the equation that was solved, its mean over the Gauss points: g / `scale_factor` with "
            "`scale_scope` all, else g",
            unit="mm^2",
            is_objective=False,
        ),
        Metric(
            "equation_error",
            "`rel_l2` of the exact solution, by finite elements, of an equation that `scale_scope` all changed; null "
            "where the equation is the given one",
            needs_reference=True,
            is_percent=True,
            is_objective=False,
        ),
    )
    together = (
        ("scale_scope", "strain_multiplier"),
        ("formulation", "loss"),
        ("formulation", "boundary_weight"),
        ("formulation", "batch"),
        ("formulation", "inputs"),
    )
    data_settings, point_settings, input_settings = ("data",), ("formulation",), ("inputs",)
    pack_settings = ("data", "inputs", "formulation")
    loss_settings = (  # scaling the inputs changes the boundary terms
        *("formulation", "loss", "boundary_weight", "strain_reference", "inputs"),
        *("scale_factor", "scale_scope", "strain_multiplier"),
    )
    equation_settings = ("scale_scope",)
    mark = "notch"
    known_advice = "divide it by 10 if it is ten times the physical value, as in published tables"
    reference_advice = "Add the column enonlocal_true to the Gauss points"
    guesses = {"the local strain, u = e": "local"}
    limits, marks_of = LIMITS, NOTCHES

    data: Annotated[
        str | dict[str, Any],
        Doc(
            "The tables to train on: strb100 (bundled), {gauss_points: a.csv, lrb: b.csv, btb: c.csv}, {mat: d.mat, "
            "increment: 164} or {npz: d.npz}. Beside tables: nodes and elements (the mesh), elocal_factor (auto, 1 or "
            "10), columns ({x: NAME}), length (mm, else m, cm, um, in), mesh (of a .mat). Strains are dimensionless; "
            "relative paths start at the folder of the study file."
        ),
    ] = "strb100"
    inputs: Annotated[
        tuple[str, ...],
        Doc("Inputs of the network: [x, y], or [x, y, g, elocal], with which the wrong solution u = e has zero loss."),
    ] = ("x", "y")
    formulation: Annotated[
        Literal["strong", "fe"],
        Doc(
            "strong (residuals at the Gauss points and boundary nodes) or fe (the finite-element equations for the "
            "network's values at the nodes, which needs 2 x 2 Gauss points of a mesh and has no boundary terms)."
        ),
    ] = "strong"
    loss: Annotated[
        Literal["mean_square", "norm"], Doc("norm (sum of three un-averaged L2 norms, as published) or mean_square.")
    ] = "norm"
    scale_factor: Annotated[
        PositiveFloat,
        Doc("Factor on the inputs; with scale_scope consistent it changes the training, not the equation."),
    ] = 1.0
    scale_scope: Annotated[
        Literal["consistent", "all", "elocal"],
        Doc(
            "What scale_factor multiplies: consistent (the inputs and, squared, g), all (every raw input, which "
            "changes the equation) or elocal (only elocal); the last two reproduce published mistakes."
        ),
    ] = "consistent"
    strain_multiplier: Annotated[
        PositiveFloat,
        Doc("Factor on the strains that are read; 10 for published tables, which needs scale_scope all or elocal."),
    ] = 1.0
    boundary_weight: Annotated[NonNegativeFloat, Doc("Factor on both boundary terms of the loss.")] = 1.0
    strain_reference: Annotated[
        Literal["rms", "max"],
        Doc("With scale_scope consistent, strains are divided by the rms or the max of e over the Gauss points."),
    ] = "rms"

    def check(self) -> None:
        if self.inputs not in INPUT_SETS:
            raise SettingError("inputs", list(self.inputs), "must be [x, y] or [x, y, g, elocal]")
        if self.scale_scope == "consistent" and self.strain_multiplier != 1.0:
            raise SettingError(
                "strain_multiplier",
                self.strain_multiplier,
                "must be 1 where scale_scope is consistent",
                "Use scale_scope: all to reproduce strains multiplied by 10.",
            )
        if self.formulation == "fe":
            self._check_fe()

    def _check_fe(self) -> None:
        for name in _STRONG_ONLY:
            value, default = getattr(self, name), getattr(type(self), name)
            if value != default:
                raise SettingError(
                    name,
                    value,
                    "has no meaning where formulation is fe, whose loss is an energy without boundary terms",
                    f"Leave {name} out, or give it a condition: when: {{formulation: strong}}.",
                )
        if self.inputs != INPUT_SETS[0]:
            raise SettingError(
                "inputs", list(self.inputs), "must be [x, y] where formulation is fe: nodes have no local strain"
            )

    @classmethod
    def advice(cls, values: Callable[[str], tuple[Any, ...]]) -> Iterator[str]:
        reproductions = [scope for scope in values("scale_scope") if scope != "consistent"]
        if reproductions:
            yield (
                f"scale_scope {' and '.join(reproductions)} reproduces published mistakes: a scale_factor other "
                "than 1 changes the equation."
            )
        if any("elocal" in inputs for inputs in values("inputs")):
            yield (
                "inputs with elocal: the wrong solution u = e then has zero loss (on strb100 its error is 17 %); watch "
                "distance_to_local."
            )

    def with_tables(self, tables: FieldData) -> NonlocalStrain:
        """Return the problem on given tables instead of those that `data` names."""
        return self._with(tables=tables)

    @cached_property
    def tables(self) -> FieldData:
        """Return the tables that `data` names. Raises `DataError` where they cannot be read."""
        return load_data(self.data, self._open_table or no_tables)

    def equations(self, u: Any, x: Any, y: Any, g: Any, elocal: Any) -> dict[str, Any]:
        strength = self._effective(g)
        return {"residual": u - strength * (u.diff(x, 2) + u.diff(y, 2)) - elocal}

    def _effective(self, g: Any) -> Any:
        """Return the g of the equation that is solved: only the scope `all` changes it."""
        return g / self.scale_factor if self.scale_scope == "all" else g

    def conditions(self, u: Any, x: Any, y: Any) -> list[Condition]:
        weight = self.boundary_weight
        return [Condition("lrb", u.diff(x), weight=weight), Condition("btb", u.diff(y), weight=weight)]

    @property
    def groups(self) -> tuple[Group, ...]:
        return (_nodal(),) if self.formulation == "fe" else super().groups

    @property
    def loss_form(self) -> str:
        return "energy" if self.formulation == "fe" else self.loss

    @property
    def coupling(self) -> Any:
        return self.finite_elements.matrix

    @property
    def formulation_advice(self) -> str:
        if self.formulation == "fe":
            return "Read the network at the nodes (rel_l2_nodal), or use data on a finer mesh"
        if self.scale_scope != "consistent" and self.scale_factor != 1.0:
            return "Use scale_scope: consistent, for this scale_factor changes the equation"
        if "elocal" in self.inputs:
            return "Use inputs: [x, y], for with the local strain as an input, u = e has no loss"
        return "Use formulation: fe, whose exact minimiser is the finite-element solution"

    @cached_property
    def pointwise(self) -> NonlocalStrain:
        if self.formulation == "strong":
            return self
        strong = dataclasses.replace(self, formulation="strong")
        return strong.with_tables(self.tables)

    @property
    def finite_elements(self) -> Discrete:
        """Return the equation on the elements of the Gauss points. Raises `DataError` where these form no mesh."""
        return self.tables.discrete(self.scale_factor if self.scale_scope == "all" else 1.0)

    @cached_property
    def nodes(self) -> PointSet:
        """Return the nodes, with the finite-element solution as `u_h`. Raises `DataError` as `finite_elements`."""
        elements = self.finite_elements
        x, y = elements.quads.nodes.T
        return self.at("nodes", {"x": x, "y": y, "u_h": self.output_factor * elements.solution})

    @property
    def input_columns(self) -> tuple[Column, ...]:
        by_symbol = {column.symbol: column for column in (*self.coordinates, *self.known)}
        return tuple(by_symbol[symbol] for symbol in self.inputs)

    @cached_property
    def point_sets(self) -> tuple[PointSet, ...]:
        if self.formulation == "fe":
            return (self.nodes,)
        boundary = {"lrb": self.tables.lrb, "btb": self.tables.btb}
        return (self.field_points, *(self._at(term, table) for term, table in boundary.items()))

    def _at(self, name: str, points: Points) -> PointSet:
        columns = (*self.coordinates, *self.known)
        return self.at(name, {column.symbol: points.columns[column.name] for column in columns})

    @cached_property
    def field_points(self) -> PointSet:
        return self._at("residual", self.tables.gauss)

    @cached_property
    def held_out(self) -> tuple[tuple[int, PointSet], ...]:
        points = self.tables.held_out
        return () if points is None or self.formulation == "fe" else ((0, self._at("held out", points)),)

    @cached_property
    def scales(self) -> Mapping[str, tuple[float, float]]:
        """Return centre and factor by symbol; only the scope `consistent` leaves the equation unchanged."""
        s = self.scale_factor
        if self.scale_scope == "all":
            strain = s * self.strain_multiplier
            return {"x": (0.0, s), "y": (0.0, s), "g": (0.0, s), "elocal": (0.0, strain)}
        if self.scale_scope == "elocal":
            plain = {column.symbol: (0.0, 1.0) for column in (*self.coordinates, *self.known)}
            return {**plain, "elocal": (0.0, s * self.strain_multiplier)}
        tables = self.tables
        x = np.concatenate([tables.gauss.x_mm, tables.lrb.x_mm, tables.btb.x_mm])
        y = np.concatenate([tables.gauss.y_mm, tables.lrb.y_mm, tables.btb.y_mm])
        half_mm = max(np.ptp(x), np.ptp(y)) / 2
        e = tables.gauss.elocal
        reference = np.sqrt(np.mean(e**2)) if self.strain_reference == "rms" else e.max()
        length = float(s / half_mm)
        return {
            "x": (float(x.min() + np.ptp(x) / 2), length),
            "y": (float(y.min() + np.ptp(y) / 2), length),
            "g": (0.0, float((s / half_mm) ** 2)),
            "elocal": (0.0, float(1 / reference)),
        }

    @property
    def output_factor(self) -> float:
        """Return the network's output over the strain."""
        return self.scales["elocal"][1]

    @property
    def output_sizes(self) -> Mapping[str, float]:
        return {"u": 1 / self.output_factor}

    @property
    def residual_sizes(self) -> Mapping[str, float]:
        """Return the sizes that make the loss that of the network's units."""
        size = self.output_sizes["u"]
        return {"residual": size, "lrb": size * self.scales["x"][1], "btb": size * self.scales["y"][1]}

    @property
    def solution(self) -> Array | None:
        true = self.tables.gauss.enonlocal_true
        return None if true is None else true[None]

    @property
    def data_notes(self) -> tuple[str, ...]:
        return self.tables.notes

    @property
    def data_warnings(self) -> tuple[str, ...]:
        return self.tables.warnings

    @property
    def data_sha256(self) -> str:
        return self.tables.sha256

    def why_not(self, metric: str) -> str | None:
        reason = super().why_not(metric)
        if reason is None and metric == "process_zone_error" and not self._zone.any():
            low, high = PROCESS_ZONE_X_MM
            return f"no Gauss point lies in the process zone, {low:g} < x < {high:g} mm, y < {PROCESS_ZONE_Y_MM:g} mm"
        if reason is None and metric == "paper_metric" and self.solution is not None and not self.solution.all():
            return "the reference is 0 at some points, and this metric divides by it"
        if reason is None and metric.endswith("_nodal"):
            return self._why_no_nodes
        return reason

    @property
    def _why_no_nodes(self) -> str | None:
        """Return why the network is not read at nodes, None where it is."""
        if self.inputs != INPUT_SETS[0]:
            return "the network has the local strain as an input, which nodes do not have"
        try:
            _ = self.tables.quads
        except DataError as problem:
            return str(problem).removeprefix("data: ")
        return None

    @cached_property
    def _zone(self) -> NDArray[np.bool_]:
        """Return which Gauss points [points] lie in the process zone."""
        low, high = PROCESS_ZONE_X_MM
        gauss = self.tables.gauss
        return (gauss.x_mm > low) & (gauss.x_mm < high) & (gauss.y_mm < PROCESS_ZONE_Y_MM)

    def forcing(self, points: PointSet) -> Array:
        return self.output_factor * points.values["elocal"]

    def measure(self, u: Array, predict: Predictor) -> dict[str, float | None]:
        (u,), gauss = u, self.tables.gauss
        metrics: dict[str, float | None] = {
            "distance_to_local": relative(u, gauss.elocal),
            "effective_g_mm2": float(np.mean(self._effective(gauss.g_mm2))),
            "equation_error": self._equation_error,
        }
        if "elocal" in self.inputs:
            slopes = predict.input_gradient(self.field_points.inputs)
            metrics["mean_abs_du_de"] = float(np.abs(slopes[0, :, 3]).mean())
        if (true := gauss.enonlocal_true) is not None:
            zone = self._zone
            if self.why_not("paper_metric") is None:
                metrics["paper_metric"] = float(np.sqrt((((true - u) / true) ** 2).sum()))
            if self.why_not("process_zone_error") is None:
                metrics["process_zone_error"] = relative(u[zone], true[zone])
            if self.why_not("rel_l2_nodal") is None:
                nodal = self.nodal_reading(predict.value(self.nodes.inputs))
                metrics["rel_l2_nodal"] = relative(nodal, true)
                if self.why_not("process_zone_error") is None:
                    metrics["process_zone_error_nodal"] = relative(nodal[zone], true[zone])
        return metrics

    def nodal_reading(self, raw: Array) -> Array:
        """Return physical values [points] at the Gauss points from raw outputs [1, nodes], by the shape functions."""
        return self.finite_elements.read(raw[0]) / self.output_factor

    @property
    def _equation_error(self) -> float | None:
        """Return the error of the exact solution, by finite elements, where the scale changed the equation."""
        if self.scale_scope != "all" or self.scale_factor == 1 or self.solution is None:
            return None
        try:
            elements = self.finite_elements
        except DataError:  # scattered points
            return None
        return relative(elements.read(elements.solution), self.solution[0])


@functools.cache
def _nodal() -> Group:
    """Return the deviation from the finite-element solution at the nodes, both in the network's units."""
    import sympy as sp

    from ..equations.channels import Channels, Group

    value, solution = sp.symbols("c0_0 u_h", real=True)
    x, y = sp.symbols("x y", real=True)
    field = sp.Function("N_u", real=True)(x, y)
    return Group(
        terms=("energy",),
        channels=Channels(),
        residuals=(value - solution,),
        channel_symbols=((value,),),
        columns=(solution,),
        column_symbols=(solution,),
        written=(field - solution,),
        fields=(field,),
        is_coupled=True,
    )
