"""The one thing every back-end can do: take jobs and give handles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .job import Job, JobHandle


class Executor(ABC):
    """A place where jobs run."""

    @abstractmethod
    def submit(self, job: Job) -> JobHandle:
        """Start the job, or queue it. Raises `JobError` for one that cannot run here.

        A command that does not exist is not such a job: it fails with exit code 127, as it would far away.
        """

    @abstractmethod
    def attach(self, job_id: str) -> JobHandle:
        """The handle of a job that any client submitted to this place before. Raises `JobNotFound`."""

    @abstractmethod
    def list(self) -> Sequence[JobHandle]:
        """Every job of this place, oldest first."""
