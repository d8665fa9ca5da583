"""The one thing every back-end can do: take jobs and give handles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .errors import ClusterError
from .job import Job, JobHandle


@dataclass(frozen=True)
class Check:
    """One step of looking whether a place can be used: `what` must hold; `problem` says why not and what to mend."""

    what: str
    problem: str = ""


def checked(steps: Iterable[tuple[str, Callable[[], object]]]) -> Iterator[Check]:
    """Look at what must hold, one after the other; a look raises `ClusterError` where it does not, and is the last."""
    for what, look in steps:
        try:
            look()
        except ClusterError as problem:
            yield Check(what, str(problem))
            return
        yield Check(what)


class Executor(ABC):
    """A place where jobs run."""

    @abstractmethod
    def submit(self, job: Job) -> JobHandle:
        """Start the job, or queue it. Raises `JobError` for one that cannot run here.

        A command that does not exist is not such a job: it fails with exit code 127, as it would far away.
        """

    @abstractmethod
    def preview(self, job: Job) -> str:
        """Exactly what `submit` would send or run, as text, with secrets left out; nothing is done."""

    @abstractmethod
    def checks(self) -> Iterator[Check]:
        """Look step by step whether the place can be used, from the near to the far; ends at the first problem."""

    @abstractmethod
    def attach(self, job_id: str) -> JobHandle:
        """The handle of a job that any client submitted to this place before. Raises `JobNotFound`."""

    @abstractmethod
    def list(self) -> Sequence[JobHandle]:
        """Every job of this place, oldest first."""
