"""What the columns of the table `trials` mean, in sentences for people; `docs/tables.md` has the same words."""

from __future__ import annotations

from typing import Final

from pinncore.problems.record import ProblemRecord
from pinncore.settings import description

from .schema import all_settings, loss_columns

_RESULTS: Final = {
    "trial": "Number of the trial in its study, from 0",
    "replicate": "Repetition of the configuration with another seed, from 0",
    "state": "COMPLETE, FAIL (see failure) or PRUNED: ended early, with the metrics at that point",
    "pack": (
        "Pack in which it finished: members that train together in one process. Like host and the times it "
        "may differ between two runs of one study; null where it was not trained"
    ),
    "seed": "Seed of the initial weights",
    "attempt": "Number of the start of the study, from 1, during which it finished",
    "duplicate_of": (
        "Earlier trial with the same configuration, whose results are repeated here; null where it was "
        "trained. Rankings leave such trials out"
    ),
    "retry_of": "Failed trial that this one trains again with the same seed; null for all others",
    "taken_from": (
        "Trial of another study, FOLDER/N, whose results are repeated here; null where it was trained in this study"
    ),
    "rebatched": (
        "Whether it trained with other members than planned, with an engine whose rounding depends on them; "
        "the results then differ from those of an uninterrupted run by rounding"
    ),
    "problem": "Name of the problem; of a user's the class and the start of its source's hash, Mine@1f0a7c2e9b64",
    "loss": "Final loss; do not rank trials by it, but by rel_l2",
    "grad_norm": "L2 norm of the final gradient",
    "stop_reason": "Why training ended, as one of a fixed set of words",
    "stop_advice": (
        "What to do about it, as a sentence; at a limit of steps, by the course of the error over the last fifth of "
        "the stage"
    ),
    "failure": "Reason of the failure; null where nothing failed",
    "parameters": "Weights and biases of the network",
    "epochs_done": "Epochs of the first stage done",
    "iterations_done": "Iterations of the second stage done",
    "kept_at": (
        "Step of both stages together whose weights are the result, to which the loss, the metrics and the field "
        "belong: the last one, or with final_weights best_heldout that of the smallest held-out residual"
    ),
    "first_evaluations": "Evaluations of loss and gradient in the first stage",
    "second_evaluations": "Evaluations of loss and gradient in the second stage, including line searches",
    "evaluations": "Evaluations of both stages together",
    "first_seconds": (
        "Time in the first stage: the trial's share of its pack's wall-clock time, so that times of trials can be added"
    ),
    "second_seconds": "Time in the second stage, measured in the same way",
    "seconds": "Time in both stages together",
    "started_at": "When its training began, in the last attempt",
    "finished_at": "When its training ended",
    "engine_used": "Engine that evaluated loss and gradient",
    "lbfgs_memory_used": "Form in which the second stage kept its pairs: two_loop, compact or dense; empty for scipy",
    "device": "Device it trained on",
    "device_name": "Model of the GPU it trained on; null on a CPU, whose name is in cpu",
    "driver": "Version of the NVIDIA driver it trained with; null on a CPU",
    "capability": "Compute capability of that GPU, such as 9.0; null on a CPU",
    "cpu": "Processor it trained on, as named by LLVM; the compiled kernels are built for it",
    "host": "Machine it trained on",
    "python_version": "Version of Python",
    "torch_version": "Version of PyTorch",
    "numpy_version": "Version of NumPy",
    "scipy_version": "Version of SciPy",
    "numba_version": "Version of Numba",
    "pinnsweep_version": "Version of pinnsweep",
    "code_version": "The same, +, and the first digits of the hash of all sources",
    "data_hash": "SHA-256 of the data: equal data have equal hashes, whatever their file",
    "config_hash": "SHA-256 of the resolved configuration",
    "spec_hash": "SHA-256 of the study file by which it was proposed",
}


def meaning_of(column: str, problem: ProblemRecord) -> str | None:
    """Return what a column of `trials` means in studies of a problem, None where it has no such column."""
    for setting in all_settings(problem):
        if setting.column == column:
            return description(setting.hint) or f"The setting {setting.name} of {setting.section}"
    if record := problem.metric(column):
        return record.meaning
    if column in loss_columns(problem)[1:]:
        term = column.removeprefix("loss_")
        return f"Loss term {problem.term_meanings.get(term, f'{term}, before its weight')}"
    return _RESULTS.get(column)
