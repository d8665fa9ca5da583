"""The process that sends a study to one tracker: apart from the run, which it can neither delay nor fail.

Its first line of input is an `Order` as JSON; it sends for the last time once its input ends. It answers in lines of
JSON. What the tracker's library prints goes to its standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.hiding import visible_text

from ..errors import StudyError
from ..spec.sections import TrackSettings
from ..storage.object_store import Remote, uri_of
from ..storage.stored_tables import tables_of
from .opening import tracker_of
from .sending import Sending, follow
from .sent import only_sender

if TYPE_CHECKING:
    from ..spec.study_spec import StudySpec

ORPHAN_S: Final = 60.0  # for the rest, where the process that gave the order is gone
_LONGEST: Final = 300  # characters of an error
_QUIET: Final = {  # what the libraries send to their makers, and how long they try, where the user says nothing else
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


@dataclass(frozen=True)
class Order:
    """What to send: the study, where its tables are (a folder or a URI), and the settings of the tracker `name`."""

    study: str
    study_dir: str
    tables: str
    name: str
    settings: dict[str, Any]
    numbered: bool
    again: bool

    @classmethod
    def of(
        cls, spec: StudySpec, study_dir: Path, name: str, *, tables: Remote | None = None, again: bool = False
    ) -> Order:
        """Return the order to send a study to its tracker `name`; its tables are in its folder unless given."""
        folder = study_dir.absolute()
        return cls(
            study=spec.study,
            study_dir=str(folder),
            tables=str(tables or folder),
            name=name,
            settings=spec.track.chosen[name].model_dump(mode="json"),
            numbered=spec.search.replicates > 1,
            again=again,
        )

    def to_json(self) -> str:
        """Return the order as one line."""
        return json.dumps(asdict(self))


def main() -> None:
    """Obey the order on the standard input."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    order, over = Order(**json.loads(sys.stdin.readline())), threading.Event()
    threading.Thread(target=_await_end, args=(over, os.getppid()), daemon=True).start()

    def say(**answer: Any) -> None:
        try:
            print(json.dumps(answer), file=answers, flush=True)
        except OSError:  # nobody reads it: the record says what was sent
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())

    def trouble(error: Exception) -> None:
        traceback.print_exception(error)
        say(trouble=in_one_line(error))

    try:
        obey(order, over.wait, say, trouble)
    except (StudyError, OSError) as error:
        trouble(error)
        sys.exit(1)


def obey(
    order: Order, wait: Callable[[float], bool], say: Callable[..., None], trouble: Callable[[Exception], None]
) -> None:
    """Send a study until `wait` says that it is over. Raises `StudyError` where another process sends it already."""
    study_dir, uri = Path(order.study_dir), uri_of(order.tables)
    settings = TrackSettings.model_validate_json(json.dumps({order.name: order.settings})).chosen[order.name]
    tracker = tracker_of(settings, study_dir, order.study)
    with only_sender(study_dir, order.name):
        sending = Sending(
            tables_of(Path(order.tables) if uri is None else Remote(uri)),
            study_dir,
            order.study,
            order.name,
            tracker,
            numbered=order.numbered,
            again=order.again,
            progress=lambda: say(sent=sending.sent, left=sending.left),
        )
        try:
            follow(sending, wait, trouble)
        finally:
            tracker.close()
    say(sent=sending.sent, left=sending.left, before=sending.before, place=tracker.place, is_done=True)


def in_one_line(error: Exception) -> str:
    """Return an error as text without secrets; the user's own mistakes without the name of their class."""
    text = " ".join(visible_text(str(error)).split())
    name = "" if isinstance(error, StudyError) else type(error).__name__
    return ": ".join(filter(None, (name, text)))[:_LONGEST]


def _await_end(over: threading.Event, parent: int) -> None:
    """Say that the input has ended; end this process where its parent is gone and the rest takes long."""
    while sys.stdin.readline():
        pass
    over.set()
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        time.sleep(1.0)
        if deadline is None and os.getppid() != parent:
            deadline = time.monotonic() + ORPHAN_S
    os._exit(1)


if __name__ == "__main__":
    main()
