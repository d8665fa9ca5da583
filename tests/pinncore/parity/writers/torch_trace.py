"""A training in PyTorch as users write it: nested autograd, torch.optim.Adam, each with what people get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import plates

FAULTS = (
    *("epsilon_1e-7", "elocal_x10", "derivative_zero_lrb", "derivative_wrong_input", "boundary_swapped", "loss_mean"),
    *("l2_decay", "decoupled_decay", "gradients_not_cleared", "parameter_without_gradient", "activation_sin"),
    *("float32_computation", "activation_derivative_left_out_everywhere", "weights_of_terms", "lr_x10"),
)


class _Straight(torch.autograd.Function):
    """A tanh of one's own whose backward forgets the derivative."""

    @staticmethod
    def forward(ctx: Any, z: Any) -> Any:
        return torch.tanh(z)

    @staticmethod
    def backward(ctx: Any, bar: Any) -> Any:
        return bar


def write(
    file: Path,
    *,
    layers: tuple[int, ...],
    seed: int,
    dtype: str,
    faults: Sequence[str] = (),
    steps: Sequence[int] = plates.RECORDED,
    loss: str = "norm",
) -> None:
    """Train and record."""
    assert set(faults) <= set(FAULTS)
    real = torch.float32 if dtype == "float32" or "float32_computation" in faults else torch.float64
    points, is_raw = plates.plate(seed), layers[0] == 4
    reference = float(np.sqrt(np.mean(points["residual"]["elocal"] ** 2)))
    sets = {}
    for term, columns in points.items():
        used = dict(columns, elocal=columns["elocal"] * (10 if "elocal_x10" in faults else 1))
        e = 10 * used["elocal"] if is_raw else used["elocal"] / reference
        g = used["g"] if is_raw else used["g"] / 50**2
        sets[term] = [torch.tensor(a, dtype=real) for a in (plates.scaled(used, is_raw, reference, 1.0), g, e)]
    if "boundary_swapped" in faults:
        sets["lrb"], sets["btb"] = sets["btb"], sets["lrb"]
    parameters = [torch.tensor(a, dtype=real, requires_grad=True) for pair in plates.start(layers, seed) for a in pair]
    names = [f"{kind}{level}" for level in range(1, len(layers)) for kind in "Wb"]
    trained = list(parameters)
    if "parameter_without_gradient" in faults:
        del trained[2 * ((len(layers) - 1) // 2)]
    rate = 1e-2 if "lr_x10" in faults else 1e-3
    eps = 1e-7 if "epsilon_1e-7" in faults else 1e-8
    if "decoupled_decay" in faults:
        optimiser: Any = torch.optim.AdamW(trained, lr=rate, eps=eps, weight_decay=0.01)
    else:
        optimiser = torch.optim.Adam(trained, lr=rate, eps=eps, weight_decay=0.01 if "l2_decay" in faults else 0)
    sigma = torch.sin if "activation_sin" in faults else torch.tanh
    if "activation_derivative_left_out_everywhere" in faults:
        sigma = _Straight.apply

    def network(inputs: Any) -> Any:
        a = inputs
        for level in range(len(layers) - 1):
            a = a @ parameters[2 * level] + parameters[2 * level + 1]
            a = sigma(a) if level < len(layers) - 2 else a
        return a

    def slopes(values: Any, inputs: Any) -> Any:
        return torch.autograd.grad(values.sum(), inputs, create_graph=True, materialize_grads=True, allow_unused=True)[
            0
        ]

    arrays: dict[str, Any] = {f"points/{t}/{n}": v for t, columns in points.items() for n, v in columns.items()}
    series = []
    for step in range(max(steps) + 1):
        if "gradients_not_cleared" not in faults:
            optimiser.zero_grad()
        seen, terms = {}, []
        for term, (inputs, g, e) in sets.items():
            inputs = inputs.detach().clone().requires_grad_()
            u = network(inputs)
            first = slopes(u, inputs)
            if term == "residual":
                lap = slopes(first[:, 0], inputs)[:, 0] + slopes(first[:, 1], inputs)[:, 1]
                r = u[:, 0] - g * lap - e
                seen |= {"u": u, "u_x": first[:, :1], "u_y": first[:, 1:2], "laplacian": lap}
            else:
                r = first[:, 0 if term == "lrb" else 1]
                if term == "lrb" and "derivative_wrong_input" in faults:
                    r = first[:, 1]
                if term == "lrb" and "derivative_zero_lrb" in faults:
                    r = 0 * r
                seen[f"{term}/u_{'x' if term == 'lrb' else 'y'}"] = r
            form = "mean_square" if "loss_mean" in faults else loss
            terms.append(torch.linalg.norm(r) if form == "norm" else (r**2).mean())
        share = 10 if "weights_of_terms" in faults else 1
        value = terms[0] + share * (terms[1] + terms[2])
        value.backward()
        series.append([term.item() for term in terms])
        if step in steps:
            prefix = f"step{step}/"
            for name, parameter in zip(names, parameters, strict=True):
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                is_lost = not any(parameter is each for each in trained)
                arrays[prefix + name] = parameter.detach().numpy().copy()
                arrays[f"{prefix}grad_{name}"] = (0 * gradient if is_lost else gradient).numpy().copy()
                state = optimiser.state.get(parameter, {})
                if state:
                    arrays[f"{prefix}m_{name}"] = state["exp_avg"].numpy().copy()
                    arrays[f"{prefix}v_{name}"] = state["exp_avg_sq"].numpy().copy()
            arrays |= {f"{prefix}loss": value.item(), f"{prefix}loss_terms": np.array(series[-1])}
            if step == 0:
                arrays |= {prefix + name: array.detach().numpy() for name, array in seen.items()}
        optimiser.step()
    arrays["loss_terms_by_step"] = np.array(series)
    stated: dict[str, Any] = {"loss": loss}
    if "l2_decay" in faults:
        stated |= {"first_stage": "adamw", "weight_decay": 0.01}
    plates.save(file, plates.manifest("torch", torch.__version__, layers=layers, dtype=dtype, **stated), arrays)
