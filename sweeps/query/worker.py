"""The process that computes statements for another one; `apart` starts and ends it.

It reads requests from its input and writes replies to its output until the other process is gone.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
import warnings
from typing import IO, Any, Final

import pyarrow as pa

from ..errors import StudyWarning
from .apart import READY
from .confined import GRACE_S, Limits, memory_bounded
from .query import answer_of

_ABANDONED_S: Final = 2 * GRACE_S  # beyond the limit, when the other process would have ended this one


def main() -> None:
    """Answer requests."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(sys.stderr.fileno(), 1)  # what a library prints is no reply
    _send(replies, READY)
    while True:
        try:
            environment, places, sql, limits = pickle.load(requests)  # noqa: S301  of the process that started this
        except EOFError:
            return
        if environment != dict(os.environ):
            os.environ.clear()
            os.environ.update(environment)
            tempfile.tempdir = None  # found anew
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", StudyWarning)
            answer = _answer(places, sql, limits)
        messages = [str(warning.message) for warning in told if issubclass(warning.category, StudyWarning)]
        _send(replies, (answer, list(dict.fromkeys(messages))))


def _answer(places: list[str], sql: str, limits: Limits) -> pa.Table | Exception:
    end = threading.Timer(limits.time_s + _ABANDONED_S, os._exit, [1])
    end.daemon = True
    end.start()
    try:
        with memory_bounded(limits):
            return answer_of(places, sql, limits)
    except Exception as error:
        return error
    finally:
        end.cancel()


def _send(replies: IO[bytes], content: Any) -> None:
    pickle.dump(content, replies, protocol=pickle.HIGHEST_PROTOCOL)
    replies.flush()


if __name__ == "__main__":
    main()
