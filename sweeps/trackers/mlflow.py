"""Runs in MLflow: settings as params, results and curves as metrics, everything else as tags."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.hiding import visible_text

from ..states import COMPLETE, FAIL, PRUNED
from .member_runs import MemberRun
from .tracker import CURVES

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ..spec.sections import MLflowSettings

KEY: Final = "pinnsweep.key"  # tag by which a run is found again
_STATUS: Final = {COMPLETE: "FINISHED", FAIL: "FAILED", PRUNED: "KILLED"}
_MOST_METRICS, _MOST_PARAMS, _LONGEST = 1000, 100, 4000  # of one request; characters of a value


class MLflow:
    """The experiment of a study. Without a URI its runs are in the file mlflow.db beside the study."""

    def __init__(self, settings: MLflowSettings, study_dir: Path, study: str) -> None:
        self._root = study_dir.absolute().parent
        self._uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._root / 'mlflow.db'}"
        self._is_own = not (settings.uri or os.environ.get("MLFLOW_TRACKING_URI"))
        self._experiment = settings.experiment or study

    @property
    def place(self) -> str:
        """Return the tracking URI, without a login, and the experiment."""
        return f"{visible_text(self._uri)}, experiment {self._experiment}"

    @functools.cached_property
    def _client(self) -> MlflowClient:
        if "://" not in self._uri or self._uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions refuse folders otherwise
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self._uri)

    @functools.cached_property
    def _experiment_id(self) -> str:
        known = self._client.get_experiment_by_name(self._experiment)
        if known is not None:
            return known.experiment_id
        artifacts = (self._root / "mlartifacts").as_uri() if self._is_own else None  # else where the process started
        return self._client.create_experiment(self._experiment, artifact_location=artifacts)

    def log(self, run: MemberRun) -> None:
        """Create the run in the experiment. Raises `MlflowException`."""
        client, experiment = self._client, self._experiment_id
        for earlier in client.search_runs([experiment], f"tags.`{KEY}` = '{run.key}'"):
            client.delete_run(earlier.info.run_id)
        tags = {KEY: run.key, "study": run.study}
        created = client.create_run(experiment, _ms(run.started_at), tags, run.name)
        for batch in _batches(run):
            client.log_batch(created.info.run_id, **batch)
        client.set_terminated(created.info.run_id, _STATUS[run.state], _ms(run.finished_at))

    def close(self) -> None:
        """Do nothing: every request is answered."""


def _batches(run: MemberRun) -> Iterator[dict[str, Any]]:
    """Yield what a run consists of, in parts that one request may hold."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(name, str(value)[:_LONGEST]) for name, value in run.settings.items()]
    tags = [RunTag(name, text[:_LONGEST]) for name, text in run.words.items()]
    end, last = _ms(run.finished_at) or 0, int(run.metrics.get("evaluations", 0))
    metrics = [Metric(name, value, end, last) for name, value in run.metrics.items()]
    start = _ms(run.started_at) or 0
    for name, curve in run.curves.items():
        points = zip(curve.evaluations, curve.values, curve.seconds, strict=True)
        metrics += [Metric(f"{CURVES}/{name}", value, start + round(1e3 * (s or 0)), step) for step, value, s in points]
    yield from ({"params": params[at : at + _MOST_PARAMS]} for at in range(0, len(params), _MOST_PARAMS))
    yield from ({"tags": tags[at : at + _MOST_PARAMS]} for at in range(0, len(tags), _MOST_PARAMS))
    yield from ({"metrics": metrics[at : at + _MOST_METRICS]} for at in range(0, len(metrics), _MOST_METRICS))


def _ms(time: datetime | None) -> int | None:
    return None if time is None else round(1e3 * time.timestamp())
