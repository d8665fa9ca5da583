"""One job on Kubernetes: the state of its RayJob, and the log of the pod that submits it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from ..errors import ClusterError, LogsNotKept
from ..job import Job, JobHandle, JobState
from .client import CONNECT_TIMEOUT_S, RAYJOBS, KubernetesClient, Refused, Unreachable
from .manifest import RECORD, SUBMITTER, exit_code_of, state_of

FOLLOW_TIMEOUT_S: Final = 600.0  # a connection that was silent for so long may be dead and is opened again
FOLLOW_PAUSE_S: Final = 0.5
FOLLOW_ATTEMPTS: Final = 120  # to open a log again without having read a new line
PIECE_BYTES: Final = 1 << 16


class KubernetesHandle(JobHandle):
    """A RayJob. A job whose RayJob is gone was cancelled.

    `cancel` deletes the RayJob instead of suspending it, because Kueue would start a suspended one again. The deletion
    is a foreground one: the RayJob remains until its pods are gone. The command has the profile's `stop_grace_s` to
    stop, fixed when the job was submitted.
    """

    def __init__(self, api: KubernetesClient, rayjob: Mapping[str, Any]) -> None:
        self._api = api
        self._id = str(rayjob["metadata"]["name"])
        self._last: Mapping[str, Any] = rayjob.get("status", {})
        try:
            record = json.loads(rayjob["metadata"]["annotations"][RECORD])
            self._job = Job.from_json(record)
            self._submitted_at = datetime.fromisoformat(record["submitted_at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterError(
                f"RayJob {self._id} has no record of a job ({error}); delete it (kubectl delete rayjob {self._id}), or "
                "remove its label app.kubernetes.io/managed-by"
            ) from error

    @property
    def id(self) -> str:
        return self._id

    @property
    def job(self) -> Job:
        return self._job

    @property
    def submitted_at(self) -> datetime:
        return self._submitted_at

    def state(self) -> JobState:
        status = self._status()
        return JobState.CANCELLED if status is None else state_of(status)

    def exit_code(self) -> int | None:
        status = self._status()
        return None if status is None else exit_code_of(status)

    def _status(self) -> Mapping[str, Any] | None:
        """Return the newest status, or None if the RayJob was deleted before it was finished."""
        if not state_of(self._last).finished:  # a final status stays, even if the RayJob is deleted later
            try:
                self._last = self._api.call_in_namespace(
                    self._api.objects.get_namespaced_custom_object, **RAYJOBS, name=self._id
                ).get("status", {})
            except Refused as problem:
                if problem.status == 404:
                    return None
                raise
        return self._last

    def cancel(self, *, grace_s: float = 10.0) -> None:
        if self.state().finished:
            return
        try:
            self._api.call_in_namespace(
                self._api.objects.delete_namespaced_custom_object,
                **RAYJOBS,
                name=self._id,
                propagation_policy="Foreground",
            )
        except Refused as problem:
            if problem.status != 404:
                raise

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        finished = self.state().finished
        pod = self._submitter()
        if pod is None and finished:
            message = self._last.get("message", "nothing")
            raise LogsNotKept(f"job {self._id} has no log because its pods are gone; its last status says: {message}")
        if follow:
            return self._followed()
        return iter(()) if pod is None else (line for _, line in self._lines(pod, follow=False))

    def _followed(self) -> Iterator[str]:
        """Yield the log as it grows. After a lost connection, time stamps tell which lines were already read."""
        last_stamp, failures = "", 0
        while True:
            try:
                finished = self.state().finished  # before the log, so that its end is not missed
                pod = self._submitter()
                for stamp, line in self._lines(pod, follow=not finished) if pod else ():
                    if stamp > last_stamp:
                        yield line
                        last_stamp, failures = stamp, 0
                if finished:
                    return
            except Unreachable:
                failures += 1
                if failures == FOLLOW_ATTEMPTS:
                    raise
            time.sleep(FOLLOW_PAUSE_S)

    def _submitter(self) -> str | None:
        """Return the name of the newest pod that prints the job's log, or None."""
        selector = f"job-name={self._id}"
        pods = self._api.call_in_namespace(self._api.core.list_namespaced_pod, label_selector=selector).items
        newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp, default=None)
        return None if newest is None else str(newest.metadata.name)

    def _lines(self, pod: str, *, follow: bool) -> Iterator[tuple[str, str]]:
        """Yield the lines of the log that are there, each with its time stamp."""
        try:
            response = self._api.call_in_namespace(
                self._api.core.read_namespaced_pod_log,
                name=pod,
                container=SUBMITTER,
                follow=follow,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(CONNECT_TIMEOUT_S, FOLLOW_TIMEOUT_S),
            )
        except Refused as problem:
            if problem.status in (400, 404):  # its container has not started yet, or is gone
                return
            raise
        try:
            rest = b""
            pieces = response.stream(PIECE_BYTES)
            while piece := self._api.next_piece(pieces):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (_stamped(line + b"\n") for line in lines)
            if rest:
                yield _stamped(rest)
        finally:
            response.close()


def _stamped(line: bytes) -> tuple[str, str]:
    decoded = line.decode(errors="replace")
    stamp, _, text = decoded.partition(" ")
    return (stamp, text) if stamp[:4].isdigit() else ("", decoded)  # messages of the kubelet have no time stamp
