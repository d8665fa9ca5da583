"""One description, with its unit, of every field of `train` and `problem`: for editors and the documentation.

Types, rules and defaults are not repeated here; they are in the annotations of the settings themselves.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final[dict[str, str]] = {
    # train: the network
    "width": "Units in each hidden layer.",
    "depth": "Number of hidden layers.",
    "activation": "Activation of the hidden layers: tanh, sin, silu or gelu (the exact one, with the error function).",
    "init": "Initial weights: torch, keras, tf1 (Xavier truncated normal), file:PATH (an npz file with arrays W1, b1, "
    "W2, ...) or trial:STUDY/N (the last weights of trial N of the study in that folder); the shapes must be those of "
    "the network.",
    "dtype": "Floating-point type of the whole training; float32 makes L-BFGS stop early.",
    "engine": "How loss and gradient are computed: auto takes the fastest engine that supports the problem.",
    "allow_tf32": "Whether matrix products in float32 may round to TF32 on a GPU: faster, with three digits less.",
    # train: the first stage
    "first_stage": "Optimiser of the first stage: adam, adamw (decoupled weight decay), sgd, momentum (heavy ball), "
    "adagrad or rmsprop, each as in torch.optim.",
    "epochs": "Number of epochs of the first stage, each one full-batch evaluation; 0 skips the first stage.",
    "adam_lr": "Learning rate of the first stage, with every optimiser.",
    "lr_schedule": "Learning rate over the epochs: constant or cosine (falls to zero).",
    "adam_beta1": "Decay of the mean of gradients, in adam and adamw.",
    "adam_beta2": "Decay of the mean of squared gradients, in adam and adamw.",
    "adam_eps": "Epsilon of adam, adamw, adagrad and rmsprop; for the first two, adam_convention says where it enters.",
    "adam_convention": "Where epsilon enters in adam and adamw: torch (sqrt(v^) + eps), tf1 (TensorFlow 1, epsilon "
    "hat, rounded to float32) or inside (sqrt(v^ + eps)).",
    "momentum": "Share of the previous step that the optimiser momentum adds to the next one.",
    "rmsprop_decay": "Decay of the mean of squared gradients in rmsprop.",
    "weight_decay": "Decay of the weights in adamw in every epoch, multiplied by the learning rate.",
    # train: the second stage
    "second_stage": "Quasi-Newton method of the second stage: lbfgs, bfgs (keeps every curvature pair), ssbfgs and "
    "ssbroyden (self-scaled), or scipy (SciPy's L-BFGS-B, which the published TensorFlow code used).",
    "iterations": "Largest number of iterations of the second stage; 0 skips the second stage.",
    "lbfgs_history": "Number of curvature pairs kept by lbfgs and scipy.",
    "lbfgs_memory": "How lbfgs applies its pairs, with results that differ by rounding only: two_loop, compact, dense "
    "(needs an lbfgs_history of at least iterations) or auto (the fastest that is possible).",
    "lbfgs_curvature": "Which curvature pairs are kept, except in scipy: torch (y's > 1e-10) or relative (y's > eps "
    "y'y, independent of the scale of the loss).",
    "first_step": "First step of every line search, except in scipy; below 1, iterations need more evaluations.",
    "tolerance_grad": "The second stage stops when the largest gradient entry is at most this.",
    "tolerance_change": "The second stage stops when the step or the change of the loss is at most this; in scipy "
    "(ftol), when the loss changes by at most this, relative to the loss or to 1.",
    "max_evaluations": "Largest number of evaluations in the second stage; null sets no limit.",
    "divergence_factor": "A member fails when its loss exceeds this times its first value.",
    # train: what is recorded
    "record_every": "Number of epochs or iterations between two rows of the table curves.",
    "keep_epochs": "Epochs of the first stage after which weights are kept in the table weights; the final "
    "weights always are.",
    # problem: nonlocal_strain
    "data": "The tables to train on: strb100 (bundled), {gauss_points: a.csv, lrb: b.csv, btb: c.csv} with an optional "
    "elocal_factor of auto, 1 or 10, or {npz: d.npz}. Lengths in mm, g in mm^2, strains dimensionless; "
    "relative paths start at the folder of the study file.",
    "inputs": "Inputs of the network: [x, y], or [x, y, g, elocal], with which the wrong solution u = e has zero loss.",
    "loss": "norm (sum of three un-averaged L2 norms, as published) or mean_square.",
    "scale_factor": "Factor on the inputs; with scale_scope consistent it changes the training, not the equation.",
    "scale_scope": "What scale_factor multiplies: consistent (the inputs and, squared, g), all (every raw input, which "
    "changes the equation) or elocal (only elocal); the last two reproduce published mistakes.",
    "strain_multiplier": "Factor on the strains that are read; 10 for published tables, which needs scale_scope all or "
    "elocal.",
    "boundary_weight": "Factor on both boundary terms of the loss.",
    "strain_reference": "With scale_scope consistent, strains are divided by the rms or the max of e over the Gauss "
    "points.",
}


STAGES: Final[dict[str, str]] = {  # display names of the optimisers
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
    """Return the description of a field of `train` or `problem`, empty where there is none."""
    return FIELDS.get(field, "")
