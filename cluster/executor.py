"""The interface of every back-end: it takes jobs and returns handles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .errors import ClusterError
from .hiding import visible_text, visible_words
from .job import Job, JobHandle


@dataclass(frozen=True)
class Check:
    """One step of checking a place: `what` must hold; `problem` says why it does not and what to do, or is empty."""

    what: str
    problem: str = ""


def run_checks(steps: Iterable[tuple[str, Callable[[], object]]]) -> Iterator[Check]:
    """Take the steps in order and yield a check for each; end with the first that raises `ClusterError`."""
    for what, step in steps:
        try:
            step()
        except ClusterError as problem:
            yield Check(what, str(problem))
            return
        yield Check(what)


class Executor(ABC):
    """A place where jobs run."""

    @abstractmethod
    def submit(self, job: Job) -> JobHandle:
        """Start or queue the job and return its handle. Raises `JobError` for a job that cannot run here.

        A command that does not exist raises nothing: the job fails with exit code 127, on every back-end.
        """

    def preview(self, job: Job) -> str:
        """Return exactly what `submit` would send or run, as text without secrets; do nothing."""
        return visible_text(self._preview(replace(job, argv=tuple(visible_words(job.argv)))))

    @abstractmethod
    def _preview(self, job: Job) -> str:
        """Return what `preview` returns; secrets may be left in texts such as command lines, not in mappings."""

    @abstractmethod
    def checks(self) -> Iterator[Check]:
        """Check step by step whether the place can be used, starting on this machine; end at the first problem."""

    @abstractmethod
    def attach(self, job_id: str) -> JobHandle:
        """Return the handle of a job that any client submitted to this place. Raises `JobNotFound`."""

    @abstractmethod
    def list(self) -> Sequence[JobHandle]:
        """Return every job of this place, oldest first."""
