"""The strain problem in SymPy is the hand-written residual that it replaced: loss and gradient at start weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pinncore import Member, NonlocalStrain, Pack, TrainSettings
from pinncore.settings import EngineName

# settings; loss and its three terms; norm of the gradient, and its product with cos(0), cos(1), ... The seed is 3.
WRITTEN_BY_HAND: list[tuple[dict[str, Any], str, tuple[float, ...], tuple[float, float]]] = [
    (
        {},
        "tanh",
        (96.19576920650883, 95.3990607993577, 0.30037050113438685, 0.4963379060167552),
        (97.5437522500703, -42.40578532699441),
    ),
    (
        {"scale_scope": "all", "scale_factor": 100.0, "strain_multiplier": 10.0},
        "tanh",
        (64.43014852343242, 64.32115736675605, 0.043485046351490086, 0.06550611032487691),
        (307180.39827709494, 51464.69798268522),
    ),
    (
        {"loss": "mean_square", "boundary_weight": 3.0},
        "tanh",
        (1.4343419241784656, 1.4220282502186794, 0.001100273633557594, 0.003004284353037772),
        (2.9111878867520207, -1.2212549499024703),
    ),
    (
        {"inputs": ("x", "y", "g", "elocal"), "scale_factor": 2.0},
        "sin",
        (62.41747630498808, 61.60739947092112, 0.519259676642418, 0.29081715742453673),
        (95.68862349214845, 56.59890872939273),
    ),
    (
        {"scale_scope": "elocal", "scale_factor": 10.0},
        "tanh",
        (17.175373535421784, 17.036518069109963, 0.07030391490068126, 0.06855155141113983),
        (128.20235607214863, 97.86020372904406),
    ),
]


@pytest.mark.parametrize("engine", ["fused", "torch", "reference"])
@pytest.mark.parametrize(("problem", "activation", "losses", "slopes"), WRITTEN_BY_HAND)
def test_an_evaluation_is_as_before(
    engine: EngineName, problem: dict[str, Any], activation: Any, losses: tuple[float, ...], slopes: tuple[float, float]
) -> None:
    train = TrainSettings(width=8, depth=2, activation=activation, engine=engine)
    pack = Pack([Member(train, NonlocalStrain(**problem), 3)], device="cpu")
    found = pack.engine.evaluate(pack.x)
    assert [float(found.loss[0]), *found.terms[0].tolist()] == pytest.approx(losses, rel=1e-13)
    gradient = pack.engine.layout.unpack(found.gradient[0], 0)
    allowed = (1e-13 if engine == "fused" else 1e-12) * slopes[0]
    assert float(np.linalg.norm(gradient)) == pytest.approx(slopes[0], abs=allowed)
    assert float(gradient @ np.cos(np.arange(len(gradient)))) == pytest.approx(slopes[1], abs=3 * allowed)
