"""Sending a study to a tracker once, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import SpecError, StudyError
from ..spec.study_spec import StudySpec
from ..study.home import remote_of
from ..study.input_checks import of_trackers
from .child import Order
from .sender import Sender, SenderState


def send_once(
    spec: StudySpec, study_dir: Path, name: str, *, again: bool = False, show: Callable[[int, int], None]
) -> dict[str, Any]:
    """Send what the tracker of this name lacks, and return its place and the numbers of runs sent now and before.

    `show` is called with the runs that are sent and their total. Raises `SpecError` where the tracker's library is
    missing, `StudyError` where a run cannot be sent; what was sent until then stays.
    """
    missing = [mistake for mistake in of_trackers(spec, frozenset()) if mistake.path == f"track.{name}"]
    if missing:
        raise SpecError(missing)
    order = Order.of(spec, study_dir, name, tables=remote_of(study_dir), again=again)

    def heard(state: SenderState) -> None:
        show(state.sent, state.sent + state.left)

    sender = Sender(order, heard)
    try:
        sender.finish()
        sender.wait()
    finally:
        sender.kill()
    state = sender.state
    if state.trouble:
        rest = f"{state.left} runs are not sent. " if state.left else ""
        raise StudyError(f"{study_dir}: {name}: {state.trouble}. {rest}What {name} printed is in {sender.log}")
    return {"tracker": name, "place": state.place, "sent": state.sent, "before": state.before}
