"""The slides' table of one Adam step: which epsilon each framework uses shows in its fourth row.

    python examples/documents/slides_adam.py

Weights, gradients and results are the slides'. We take the step with torch.optim.Adam and with the four conventions
of `adam_convention`.
"""

import torch

from pinncore.optim import FirstOrderSettings, PackedFirstOrder
from table import Row, equal, show

WEIGHTS = [0.88782865, 0.06018033, -0.46538195, -0.49303034]
GRADIENTS = {  # of the TensorFlow run and of the PyTorch run; its fourth is not legible
    "TensorFlow": [1.1028266e00, -6.1464891e00, -6.9716954e-01, -2.0500580e-05],
    "PyTorch": [1.5916174e-02, 2.2873601e-01, 2.9203158e-02],
}
PRINTED = {
    "Algorithm 1": ("0.88682865", "0.06118033", "-0.46438195", "-0.49203083"),
    "TensorFlow": ("0.88682866", "0.06118033", "-0.46438196", "-0.49204552"),
    "PyTorch": ("0.88682866", "0.05918033", "-0.46638194"),
}

CONVENTIONS = (  # and the step of row 4 by their formulas: g / (|g| + eps) is 1 / (1 + 4.88e-4)
    ("torch", 1e-3 / (1 + 1e-8 / 2.0500580e-5), "epsilon beside the corrected root, Algorithm 1"),
    ("tf1", 1e-3 / (1 + 1e-8 / 2.0500580e-5 / 1e-3**0.5), "epsilon hat: at the first step 32 times as large"),
    ("keras", 1e-3 / (1 + 1e-8 / 2.0500580e-5 / 1e-3**0.5), "epsilon hat; Keras's own default is 1e-7"),
    ("inside", 1e-3 / (1 + 1e-8 / 2.0500580e-5**2) ** 0.5, "epsilon under the root: a fifth of the step is left"),
)


def step(gradients: list[float], convention: str, dtype: torch.dtype = torch.float32) -> list[float]:
    """Return the weights after one step at rate 1e-3, with epsilon 1e-8."""
    weights = torch.tensor([WEIGHTS[: len(gradients)]], dtype=dtype)
    settings = FirstOrderSettings(1e-3, convention=convention)
    return PackedFirstOrder([settings], weights).step(weights, torch.tensor([gradients], dtype=dtype), [0])[0].tolist()


def step_of_torch(gradients: list[float], dtype: torch.dtype) -> list[float]:
    """Return the same of torch.optim.Adam."""
    weights = torch.tensor(WEIGHTS[: len(gradients)], dtype=dtype)
    weights.grad = torch.tensor(gradients, dtype=dtype)
    torch.optim.Adam([weights], lr=1e-3, eps=1e-8).step()
    return weights.tolist()


def rows() -> list[Row]:
    """Return the printed weights after one step beside ours."""
    tensorflow, pytorch = GRADIENTS.values()
    ours = {
        "Algorithm 1": step_of_torch(tensorflow, torch.float64),
        "TensorFlow": step(tensorflow, "tf1"),
        "PyTorch": step_of_torch(pytorch, torch.float32),
    }
    found = [
        equal(f"row {row} after one step, {column}", text, value)
        for column, values in ours.items()
        for row, (text, value) in enumerate(zip(PRINTED[column], values, strict=True), 1)
    ]
    for convention, step_length, note in CONVENTIONS:
        taken = step(tensorflow, convention, torch.float64)[3] - WEIGHTS[3]
        found.append(
            Row(f"step of row 4, {convention}", "", f"{taken:.4e}", abs(taken - step_length) < 1e-8, note),
        )
    return found


if __name__ == "__main__":
    show(rows())
