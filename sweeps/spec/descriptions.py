"""One sentence, with its unit, for every field of `train` and `problem`: for editors and the documentation.

Types, rules and defaults are not repeated here; they stand in the annotations of the settings themselves.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final[dict[str, str]] = {
    # train: the network
    "width": "Units in each hidden layer.",
    "depth": "Number of hidden layers.",
    "activation": "Activation of the hidden layers: tanh, sin, silu or gelu (the exact one, with the error function).",
    "init": "Initial weights: torch, keras, tf1 (Xavier truncated normal), file:PATH (an npz file with arrays W1, b1, "
    "W2, ...) or trial:STUDY/N (the last weights of trial N of the study in that folder); shapes are the network's.",
    "dtype": "Floating-point type of the whole training; float32 makes L-BFGS stop early.",
    "engine": "How loss and gradient are computed: auto takes the fastest that supports the problem.",
    "allow_tf32": "Whether matrix products in float32 may round to TF32 on a GPU: faster, three digits less.",
    # train: the first stage
    "first_stage": "Optimiser of the first stage: adam, adamw (decoupled weight decay), sgd, momentum (heavy ball), "
    "adagrad or rmsprop, each as torch.optim has it.",
    "epochs": "Epochs of the first stage, whichever its optimiser, each one full-batch evaluation; 0 starts with "
    "the second stage.",
    "adam_lr": "Learning rate of the first stage.",
    "lr_schedule": "Learning rate over the epochs: constant, or cosine (falling to zero).",
    "adam_beta1": "Decay of the mean of gradients, in adam and adamw.",
    "adam_beta2": "Decay of the mean of squared gradients, in adam and adamw.",
    "adam_eps": "Epsilon of adam, adamw, adagrad and rmsprop; in the first two adam_convention says where it enters.",
    "adam_convention": "Where epsilon enters: torch (sqrt(v^) + eps), tf1 (TensorFlow 1, epsilon hat, rounded to "
    "float32) or inside (sqrt(v^ + eps)).",
    "momentum": "Share of the last step that momentum adds to the next.",
    "rmsprop_decay": "Decay of the mean of squared gradients in rmsprop.",
    "weight_decay": "Decay of the weights in adamw, times the learning rate, at every epoch.",
    # train: the second stage
    "second_stage": "Quasi-Newton method of the second stage: lbfgs, bfgs (no pair is forgotten), ssbfgs, ssbroyden "
    "(self-scaled), or scipy (SciPy's L-BFGS-B, as the published TensorFlow code ran it).",
    "iterations": "Largest number of iterations of the second stage; 0 leaves it out.",
    "lbfgs_history": "Number of curvature pairs kept by lbfgs and scipy.",
    "lbfgs_memory": "How lbfgs applies its pairs, equal but for rounding: two_loop, compact, dense (needs an "
    "lbfgs_history of at least iterations), or auto, the fastest that holds.",
    "lbfgs_curvature": "Which pairs are kept: torch (y's > 1e-10) or relative (y's > eps y'y, independent of the scale "
    "of the loss).",
    "first_step": "First step of every line search; below 1 each iteration needs more evaluations.",
    "tolerance_grad": "The second stage stops where the largest gradient entry is at most this.",
    "tolerance_change": "The second stage stops where step or loss change by at most this; in scipy, its ftol: "
    "where the loss changes by at most this, relative to the loss or to 1.",
    "max_evaluations": "Largest number of evaluations in the second stage; null sets no limit.",
    "divergence_factor": "A member fails where its loss passes this times its first value.",
    # train: what is recorded
    "record_every": "Epochs or iterations between two rows of the table of curves.",
    "keep_epochs": "Epochs of the first stage whose weights are kept in the table of weights; the last always is.",
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


STAGES: Final[dict[str, str]] = {  # optimisers by the names that people know
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "momentum": "SGD, momentum",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
    "lbfgs": "L-BFGS",
    "bfgs": "BFGS",
    "ssbfgs": "SSBFGS",
    "ssbroyden": "SSBroyden",
    "scipy": "L-BFGS-B",
    "mixed": "both stages",
}


def describe(field: str) -> str:
    """Return the sentence on a field of `train` or `problem`, or an empty text."""
    return FIELDS.get(field, "")
