"""The states of a trial, as Optuna and the tables name them."""

from __future__ import annotations

WAITING, RUNNING, COMPLETE, FAIL, PRUNED = "WAITING", "RUNNING", "COMPLETE", "FAIL", "PRUNED"
FINISHED = (COMPLETE, FAIL, PRUNED)
STATES = (*FINISHED, RUNNING, WAITING)
