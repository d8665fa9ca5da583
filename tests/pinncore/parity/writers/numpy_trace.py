"""A training in plain NumPy, by hand: forward derivatives, reverse pass, Adam, each with what people get wrong.

The manifest always states what the program without its faults would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import plates

FAULTS = (
    *("epsilon_hat", "epsilon_inside", "epsilon_1e-7", "epsilon_1e-5", "no_bias_correction"),
    *("float32_hyperparameters", "float32_computation", "elocal_x10", "g_x10", "g_div10", "coordinates_x10"),
    *("derivative_zero_lrb", "derivative_zero_btb", "laplacian_zero", "derivative_empty", "derivative_wrong_input"),
    "derivatives_all_empty",
    *("derivative_to_g", "boundary_swapped", "loss_sum", "loss_mean", "loss_half", "weights_of_terms", "l2_decay"),
    *("decoupled_decay", "bias_not_updated", "biases_not_updated", "bias_gradient_not_cleared"),
    *("gradients_not_cleared", "parameter_without_gradient", "activation_derivative_left_out"),
    *("weights_transposed", "activation_sin", "lr_x10", "beta2_099"),
)
Weights = list[tuple[Any, Any]]


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
    faults = set(faults)
    assert faults <= set(FAULTS)
    real = np.float32 if dtype == "float32" or "float32_computation" in faults else np.float64
    points, is_raw = plates.plate(seed), layers[0] == 4
    used = {term: dict(columns) for term, columns in points.items()}
    for fault, names, factor in (
        ("elocal_x10", ("elocal",), 10),
        ("g_x10", ("g",), 10),
        ("g_div10", ("g",), 0.1),
        ("coordinates_x10", ("x", "y"), 10),
    ):
        if fault in faults:
            used = {t: {n: v * factor if n in names else v for n, v in columns.items()} for t, columns in used.items()}
    if "boundary_swapped" in faults:
        used["lrb"], used["btb"] = used["btb"], used["lrb"]
    reference = float(np.sqrt(np.mean(points["residual"]["elocal"] ** 2)))
    sets = []
    for columns in used.values():
        inputs = plates.scaled(columns, is_raw, reference, 1.0).astype(real)
        g = columns["g"].astype(real) if is_raw else (columns["g"] / 50**2).astype(real)
        e = (10 * columns["elocal"]).astype(real) if is_raw else (columns["elocal"] / reference).astype(real)
        sets.append((inputs, g, e))
    weights = [(w.astype(real), b.astype(real)) for w, b in plates.start(layers, seed)]
    training = _Training(weights, sets, faults, loss, real)
    arrays: dict[str, Any] = {f"points/{t}/{n}": v for t, columns in points.items() for n, v in columns.items()}
    terms = []
    for step in range(max(steps) + 1):
        value, parts, gradient, seen = training.evaluate()
        terms.append(parts)
        if step in steps:
            prefix = f"step{step}/"
            for level, ((w, b), (gw, gb)) in enumerate(zip(training.weights, gradient, strict=True), 1):
                turned = "weights_transposed" in faults and level == 2
                arrays |= {f"{prefix}W{level}": w.T if turned else w, f"{prefix}b{level}": b}
                arrays |= {f"{prefix}grad_W{level}": gw.T if turned else gw, f"{prefix}grad_b{level}": gb}
            arrays |= {f"{prefix}loss": value, f"{prefix}loss_terms": np.array(parts)}
            if step == 0:
                arrays |= {f"{prefix}{name}": array for name, array in seen.items()}
        training.step(gradient)
    arrays["loss_terms_by_step"] = np.array(terms)
    stated = {"loss": loss}
    if "l2_decay" in faults:
        stated |= {"first_stage": "adamw", "weight_decay": 0.01}
    plates.save(file, plates.manifest("numpy", np.__version__, layers=layers, dtype=dtype, **stated), arrays)


class _Training:
    def __init__(self, weights: Weights, sets: list[Any], faults: set[str], loss: str, real: Any) -> None:
        self.weights, self.sets, self.faults, self.loss, self.real = weights, sets, faults, loss, real
        self.m = [(np.zeros_like(w), np.zeros_like(b)) for w, b in weights]
        self.v = [(np.zeros_like(w), np.zeros_like(b)) for w, b in weights]
        self.carried: list[Any] = [(0, 0)] * len(weights)
        self.count = 0

    def evaluate(self) -> tuple[Any, list[Any], Weights, dict[str, Any]]:
        """Return the loss, its terms, the gradient, and what is recorded of the first evaluation."""
        faults, real = self.faults, self.real
        all_empty = "derivatives_all_empty" in faults
        parts, gradients, seen = [], [], {}
        for number, (inputs, g, e) in enumerate(self.sets):
            x_to, y_to = 0, 1
            if number == 1 and "derivative_wrong_input" in faults:
                x_to = 1
            if number == 2 and "derivative_to_g" in faults:
                y_to = 2
            channels, tape = self._forward(inputs, x_to, y_to)
            u, ux, uy, lap = (channel[:, 0] for channel in channels)
            bars = [np.zeros_like(u) for _ in range(4)]
            if number == 0:
                gone = "laplacian_zero" in faults or all_empty
                lap_used = 0 * lap if gone else lap
                r = u - g * lap_used - e
                bars[0], bars[3] = r, (0 * r if gone else -g * r)
                seen |= {"u": u, "u_x": ux, "u_y": uy, "laplacian": lap_used}
                if all_empty:
                    seen |= dict.fromkeys(("u_x", "u_y", "u_xx", "u_yy", "laplacian"), np.zeros((1, 0, 2)))
            elif number == 1:
                gone = "derivative_zero_lrb" in faults or "derivative_empty" in faults or all_empty
                r = 0 * ux if gone else ux
                bars[1] = r
                seen["lrb/u_x"] = np.zeros((1, 0, 2)) if "derivative_empty" in faults or all_empty else r
            else:
                r = 0 * uy if "derivative_zero_btb" in faults or all_empty else uy
                bars[2] = r
                seen["btb/u_y"] = r
            square = (r * r).sum(dtype=real)
            form = next((f for f in ("loss_sum", "loss_mean", "loss_half") if f in faults), self.loss)
            if form == "norm":
                part = np.sqrt(square)
                factor = 1 / part if part else real(0)
            else:
                scale = {"mean_square": 1 / len(r), "loss_mean": 1 / len(r), "loss_sum": 1.0, "loss_half": 0.5}[form]
                part, factor = real(scale) * square, real(2 * scale)
            weight = real(10 if number and "weights_of_terms" in faults else 1)
            gradients.append(self._reverse(inputs, tape, [bar[:, None] * factor * weight for bar in bars], x_to, y_to))
            parts.append(part)
        weights = [10 if number and "weights_of_terms" in faults else 1 for number in range(3)]
        loss = sum(part * real(weight) for part, weight in zip(parts, weights, strict=True))
        gradient = [
            (sum(each[level][0] for each in gradients), sum(each[level][1] for each in gradients))
            for level in range(len(self.weights))
        ]
        if "parameter_without_gradient" in faults:
            middle = len(gradient) // 2
            gradient[middle] = (np.zeros_like(gradient[middle][0]), gradient[middle][1])
        for level, (gw, gb) in enumerate(gradient):
            old_w, old_b = self.carried[level]
            keep_w = "gradients_not_cleared" in faults
            keep_b = keep_w or "bias_gradient_not_cleared" in faults
            gradient[level] = (gw + old_w if keep_w else gw, gb + old_b if keep_b else gb)
            self.carried[level] = gradient[level]
        return loss, parts, gradient, seen

    def _sigma(self, z: Any) -> tuple[Any, Any, Any, Any]:
        if "activation_sin" in self.faults:
            return np.sin(z), np.cos(z), -np.sin(z), -np.cos(z)
        a = np.tanh(z)
        s = 1 - a * a
        return a, s, -2 * a * s, -2 * s * (s - 2 * a * a)

    def _forward(self, inputs: Any, x_to: int, y_to: int) -> tuple[list[Any], list[Any]]:
        w, b = self.weights[0]
        one = np.ones((len(inputs), 1), self.real)
        z = [inputs @ w + b, one * w[x_to], one * w[y_to], np.zeros((len(inputs), w.shape[1]), self.real)]
        tape = []
        for w, b in self.weights[1:]:
            a, s1, s2, s3 = self._sigma(z[0])
            squares = z[1] ** 2 + z[2] ** 2
            out = [a, s1 * z[1], s1 * z[2], s1 * z[3] + s2 * squares]
            tape.append((z, out, s1, s2, s3, squares))
            z = [out[0] @ w + b, out[1] @ w, out[2] @ w, out[3] @ w]
        return z, tape

    def _reverse(self, inputs: Any, tape: list[Any], bars: list[Any], x_to: int, y_to: int) -> Weights:
        gradient: Weights = []
        for (w, _), (z, out, s1, s2, s3, squares) in zip(self.weights[:0:-1], reversed(tape), strict=True):
            gradient.append((sum(a.T @ bar for a, bar in zip(out, bars, strict=True)), bars[0].sum(axis=0)))
            a0, a1, a2, a3 = (bar @ w.T for bar in bars)
            slope = 1 if "activation_derivative_left_out" in self.faults else s1
            bars = [
                slope * a0 + s2 * (a1 * z[1] + a2 * z[2] + a3 * z[3]) + s3 * squares * a3,
                s1 * a1 + 2 * s2 * z[1] * a3,
                s1 * a2 + 2 * s2 * z[2] * a3,
                s1 * a3,
            ]
        first = inputs.T @ bars[0]
        first[x_to] += bars[1].sum(axis=0)
        first[y_to] += bars[2].sum(axis=0)
        gradient.append((first, bars[0].sum(axis=0)))
        return gradient[::-1]

    def step(self, gradient: Weights) -> None:
        """Take a step of Adam."""
        faults, real = self.faults, self.real
        self.count += 1
        lr, b1, b2, eps = 1e-2 if "lr_x10" in faults else 1e-3, 0.9, 0.99 if "beta2_099" in faults else 0.999, 1e-8
        eps = {"epsilon_1e-7": 1e-7, "epsilon_1e-5": 1e-5}.get(
            next((f for f in faults if f in ("epsilon_1e-7", "epsilon_1e-5")), ""), eps
        )
        if "float32_hyperparameters" in faults:
            lr, b1, b2, eps = (float(np.float32(value)) for value in (lr, b1, b2, eps))
        bias1, bias2 = 1 - b1**self.count, 1 - b2**self.count
        if "no_bias_correction" in faults:
            bias1 = bias2 = 1.0
        last = len(self.weights) - 1
        for level, (pair, grads) in enumerate(zip(self.weights, gradient, strict=True)):
            following = []
            for which, (p, g) in enumerate(zip(pair, grads, strict=True)):
                if "l2_decay" in faults:
                    g = g + real(0.01) * p
                m, v = self.m[level][which], self.v[level][which]
                m[...] = real(b1) * m + real(1 - b1) * g
                v[...] = real(b2) * v + real(1 - b2) * g * g
                if "epsilon_hat" in faults:
                    move = real(lr * np.sqrt(bias2) / bias1) * m / (np.sqrt(v) + real(eps))
                elif "epsilon_inside" in faults:
                    move = real(lr) * (m / real(bias1)) / np.sqrt(v / real(bias2) + real(eps))
                else:
                    move = real(lr) * (m / real(bias1)) / (np.sqrt(v / real(bias2)) + real(eps))
                if "decoupled_decay" in faults:
                    p = p * real(1 - lr * 0.01)
                still = which == 1 and (
                    "biases_not_updated" in faults or ("bias_not_updated" in faults and level == last)
                )
                following.append(p if still else p - move)
            self.weights[level] = (following[0], following[1])
