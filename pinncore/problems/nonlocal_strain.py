"""The non-local equivalent strain of gradient-enhanced damage, a screened Poisson equation.

    u - g (u_xx + u_yy) = e   in the plate,    u_x = 0 on left/right,    u_y = 0 on bottom/top

u: non-local strain (the network's output), e: local equivalent strain (data), both dimensionless; g = l_c^2/2 in mm^2.
Peerlings et al. (1996), eq. 12. The loss is the published one, the sum of the L2 norms of the three residuals, neither
averaged nor squared; or the sum of their mean squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ..data import FieldData, Points, load_data
from ..errors import SettingError
from ..settings import NonNegativeFloat, PositiveFloat, check_rules
from .base import Array, Jet, PointSet, Predictor, Problem

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SETS = (("x", "y"), ("x", "y", "g", "elocal"))
PROCESS_ZONE_X_MM, PROCESS_ZONE_Y_MM = (25.0, 47.5), 2.5


@dataclass(frozen=True, kw_only=True)
class NonlocalStrainSettings:
    """The data, inputs, scaling and loss of the problem.

    `scale_scope` says what `scale_factor` s multiplies: `consistent` (network inputs s (x - 50)/50, g by s^2, so the
    equation is unchanged), `all` (every raw input, which solves another equation: effective g/s) or `elocal` (elocal
    only, of the raw inputs). The last two reproduce published mistakes and are labelled so.
    """

    TOGETHER: ClassVar[tuple[tuple[str, ...], ...]] = (("scale_scope", "strain_multiplier"),)  # rules that involve both

    data: str | dict[str, Any] = "strb100"
    inputs: tuple[str, ...] = ("x", "y")
    loss: Literal["norm", "mean_square"] = "norm"
    scale_factor: PositiveFloat = 1.0
    scale_scope: Literal["consistent", "all", "elocal"] = "consistent"
    strain_multiplier: PositiveFloat = 1.0  # scopes all and elocal: factor of the strains (the slides' CSV: 10)
    boundary_weight: NonNegativeFloat = 1.0  # factor of both boundary terms
    strain_reference: Literal["rms", "max"] = "rms"  # scope consistent: strains are divided by this norm of e

    def __post_init__(self) -> None:
        check_rules(self)
        if self.inputs not in INPUT_SETS:
            raise SettingError("inputs", list(self.inputs), "must be [x, y] or [x, y, g, elocal]")
        if self.scale_scope == "consistent" and self.strain_multiplier != 1.0:
            raise SettingError(
                "strain_multiplier",
                self.strain_multiplier,
                "must be 1 where scale_scope is consistent",
                "Use scale_scope: all to reproduce strains multiplied by 10.",
            )


@dataclass(frozen=True)
class Scaling:
    """The scaling from physical to network units: x' = length (x - centre), g' = coefficient g, e' = strain e."""

    centre_mm: tuple[float, float]
    length: float
    coefficient: float
    strain: float

    @staticmethod
    def of(settings: NonlocalStrainSettings, data: FieldData) -> Scaling:
        """Return the scaling of the settings' scope; only `consistent` leaves the equation unchanged."""
        s = settings.scale_factor
        if settings.scale_scope == "all":
            return Scaling((0.0, 0.0), s, s, s * settings.strain_multiplier)
        if settings.scale_scope == "elocal":
            return Scaling((0.0, 0.0), 1.0, 1.0, s * settings.strain_multiplier)
        x = np.concatenate([data.gauss.x_mm, data.lrb.x_mm, data.btb.x_mm])
        y = np.concatenate([data.gauss.y_mm, data.lrb.y_mm, data.btb.y_mm])
        half_mm = max(np.ptp(x), np.ptp(y)) / 2
        e = data.gauss.elocal
        reference = np.sqrt(np.mean(e**2)) if settings.strain_reference == "rms" else e.max()
        centre = (float(x.min() + np.ptp(x) / 2), float(y.min() + np.ptp(y) / 2))
        return Scaling(centre, float(s / half_mm), float((s / half_mm) ** 2), float(1 / reference))


class NonlocalStrain(Problem):
    """The problem on one data set. Raises `DataError` where the data cannot be read."""

    name = "nonlocal_strain"

    def __init__(self, settings: NonlocalStrainSettings | None = None, *, data: FieldData | None = None) -> None:
        self.settings: NonlocalStrainSettings = settings or NonlocalStrainSettings()
        self.data = data if data is not None else load_data(self.settings.data)
        self.loss_form = self.settings.loss
        self.scaling = Scaling.of(self.settings, self.data)
        weight = self.settings.boundary_weight
        self.point_sets = (
            self.points("residual", self.data.gauss, 1.0),
            self.points("lrb", self.data.lrb, weight),
            self.points("btb", self.data.btb, weight),
        )

    def residual(self, term: str, u: Jet, data: Mapping[str, Tensor]) -> Tensor:
        match term:
            case "residual":
                return u.value - data["g"] * u.laplacian - data["elocal"]
            case "lrb":
                return u.x
            case "btb":
                return u.y
        raise KeyError(term)

    @property
    def data_sha256(self) -> str:
        return self.data.sha256

    @cached_property
    def held_out(self) -> PointSet | None:
        """Return points of the equation between the training points, or None where nothing can be interpolated."""
        return self.points("residual", self.data.held_out, 1.0) if self.data.held_out is not None else None

    def to_physical(self, output: Array) -> Array:
        return output / self.scaling.strain

    def error(self, output: Array) -> float | None:
        """Return || u - u_true || / || u_true || over the Gauss points, or None without a reference."""
        true = self.data.gauss.enonlocal_true
        return None if true is None else _relative(self.to_physical(output), true)

    def field(self, output: Array) -> dict[str, Array]:
        gauss = self.data.gauss
        true = gauss.enonlocal_true if gauss.enonlocal_true is not None else np.full(len(gauss), np.nan)
        return {
            "x_mm": gauss.x_mm,
            "y_mm": gauss.y_mm,
            "predicted": self.to_physical(output),
            "reference": true,
            "local": gauss.elocal,
        }

    def metrics(self, predict: Predictor) -> dict[str, float | None]:
        """Return errors to the reference, the distance to the trivial u = e, and the residual at held-out points.

        `rel_l2` = ||u - true|| / ||true||; `paper_metric` = sqrt(sum(((true - u)/true)^2)); `process_zone_error` is
        `rel_l2` ahead of the notch tip; `distance_to_local` = ||u - e|| / ||e||; `mean_abs_du_de` is |du/de| where e is
        an input; `heldout_residual` is the residual's RMS over that of e.
        """
        gauss = self.data.gauss
        inputs = self.point_sets[0].inputs
        u = self.to_physical(predict.value(inputs))
        metrics: dict[str, float | None] = {
            "rel_l2": None,
            "paper_metric": None,
            "process_zone_error": None,
            "distance_to_local": _relative(u, gauss.elocal),
            "mean_abs_du_de": None,
            "heldout_residual": None,
        }
        if self.held_out is not None:
            forcing = np.asarray(self.held_out.data["elocal"])
            metrics["heldout_residual"] = _rms(predict.residual(self.held_out)) / _rms(forcing)
        if "elocal" in self.settings.inputs:
            metrics["mean_abs_du_de"] = float(np.abs(predict.input_gradient(inputs)[:, 3]).mean())
        if gauss.enonlocal_true is not None:
            true = gauss.enonlocal_true
            low, high = PROCESS_ZONE_X_MM
            zone = (gauss.x_mm > low) & (gauss.x_mm < high) & (gauss.y_mm < PROCESS_ZONE_Y_MM)
            metrics["rel_l2"] = _relative(u, true)
            metrics["paper_metric"] = float(np.sqrt((((true - u) / true) ** 2).sum()))
            metrics["process_zone_error"] = _relative(u[zone], true[zone]) if zone.any() else None
        return metrics

    def points(self, term: str, points: Points, weight: float) -> PointSet:
        """Return physical points as a point set in network units, for the loss term `term`."""
        scaling = self.scaling
        columns = {
            "x": scaling.length * (points.x_mm - scaling.centre_mm[0]),
            "y": scaling.length * (points.y_mm - scaling.centre_mm[1]),
            "g": scaling.coefficient * points.g_mm2,
            "elocal": scaling.strain * points.elocal,
        }
        inputs = np.stack([columns[name] for name in self.settings.inputs], axis=1)
        return PointSet(term, inputs, {"g": columns["g"], "elocal": columns["elocal"]}, weight)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _relative(values: Array, reference: Array) -> float:
    return float(np.linalg.norm(values - reference) / np.linalg.norm(reference))
