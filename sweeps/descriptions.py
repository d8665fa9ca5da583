"""One sentence, with its unit, for every field of `train` and `problem`: for editors and the documentation.

Types, rules and defaults are not repeated here; they stand in the annotations of the settings themselves.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final[dict[str, str]] = {
    # train: the network
    "width": "Units in each hidden layer.",
    "depth": "Number of hidden layers.",
    "activation": "Activation of the hidden layers.",
    "init": "Initial weights: torch, keras, tf1 (Xavier truncated normal), or file:PATH (an npz file with arrays "
    "W1, b1, W2, ..., its shapes those of the network).",
    "dtype": "Floating-point type of the whole training; float32 makes L-BFGS stop early.",
    "engine": "How loss and gradient are computed: auto takes the fastest that supports the problem.",
    # train: Adam
    "adam_epochs": "Epochs of Adam, each one full-batch evaluation; 0 starts with L-BFGS.",
    "adam_lr": "Learning rate of Adam.",
    "adam_schedule": "Learning rate over the epochs: constant, or cosine (falling to zero).",
    "adam_beta1": "Decay of Adam's mean of gradients.",
    "adam_beta2": "Decay of Adam's mean of squared gradients.",
    "adam_eps": "Adam's epsilon; which formula it enters is adam_convention.",
    "adam_convention": "Where epsilon enters: torch (sqrt(v^) + eps), tf1 (TensorFlow 1, epsilon hat, rounded to "
    "float32) or inside (sqrt(v^ + eps)).",
    # train: L-BFGS
    "lbfgs_iterations": "Largest number of L-BFGS iterations after Adam; 0 leaves L-BFGS out.",
    "lbfgs_history": "Number of curvature pairs L-BFGS keeps.",
    "lbfgs_lr": "First step of every line search; below 1 each iteration needs more evaluations.",
    "lbfgs_tolerance_grad": "L-BFGS stops where the largest gradient entry is at most this.",
    "lbfgs_tolerance_change": "L-BFGS stops where step or loss change by at most this.",
    "lbfgs_max_evaluations": "Largest number of evaluations in L-BFGS; null sets no limit.",
    # train: what is recorded
    "record_every": "Epochs or iterations between two rows of the table of curves.",
    "keep_epochs": "Adam epochs whose weights are kept in the table of weights; the last epoch always is.",
    # problem: nonlocal_strain
    "data": "The tables to train on: strb100 (bundled), {gauss_points: a.csv, lrb: b.csv, btb: c.csv} with an optional "
    "elocal_factor of auto, 1 or 10, or {npz: d.npz}. Lengths in mm, g in mm^2, strains dimensionless; "
    "relative paths start at the folder of the study file.",
    "inputs": "What the network sees: [x, y], or [x, y, g, elocal], where u = e has zero loss and is wrong.",
    "loss": "norm (sum of three un-averaged L2 norms, as published) or mean_square.",
    "scale_factor": "Factor on the inputs; with scale_scope consistent it changes the training, not the equation.",
    "scale_scope": "What scale_factor multiplies: consistent (inputs and, squared, g), all (every raw input: another "
    "equation) or elocal (elocal alone); the last two reproduce published mistakes.",
    "strain_multiplier": "Factor on the strains as they enter; 10 in published tables, which needs scale_scope all or "
    "elocal.",
    "boundary_weight": "Factor on both boundary terms of the loss.",
    "strain_reference": "With scale_scope consistent, strains are divided by this of e over the Gauss points.",
}


def describe(field: str) -> str:
    """Return the sentence on a field of `train` or `problem`, or an empty text."""
    return FIELDS.get(field, "")
