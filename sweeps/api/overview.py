"""A study at a glance: how it stands, its best trial; in a notebook also its best configurations and its picture.

Nothing here raises: a study that is damaged, empty or on another machine is shown as that.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..errors import SweepError
from ..storage.object_store import Remote
from ..study.home import local
from ..study.status import read_status, status_text

_CONFIGURATIONS: Final = 5
_MOST_DRAWN: Final = 500  # trials of a study whose picture is drawn unasked


def text_of_study(place: Path | Remote) -> str:
    """Return a study as text: its status, and where it is."""
    return _text(place, _status(place))


def html_of_study(place: Path | Remote) -> str:
    """Return a study as HTML: its status, its best configurations, and its picture where that is quickly drawn."""
    from ..query.blocks import html_of_text

    status = _status(place)
    return "".join((html_of_text(_text(place, status)), *_parts(place, status)))


def _status(place: Path | Remote) -> dict[str, Any]:
    """Return the status of a study, or its error."""
    try:
        return read_status(local(Path(str(place))))
    except Exception as error:  # whatever it is, a study that is looked at must not end a session
        return {"study": place.name, "error": _reason(error)}


def _text(place: Path | Remote, status: dict[str, Any]) -> str:
    first, *others = status_text(status).splitlines()
    return "\n".join([f"Study {first}", *others, f"  in {place}"])


def _parts(place: Path | Remote, status: dict[str, Any]) -> Iterator[str]:
    if status.get("best") is None:
        return
    from ..query.blocks import html_of_blocks, html_of_text

    try:
        from .assessment import of_leaderboard

        yield html_of_blocks(of_leaderboard([place], _CONFIGURATIONS, None).blocks)
        if isinstance(place, Path) and sum(status["counts"].values()) <= _MOST_DRAWN:
            yield _picture(place)
    except Exception as error:
        yield html_of_text(f"The results cannot be shown: {_reason(error)}")


def _picture(place: Path) -> str:
    """Return the picture of a study as HTML, or why it has none."""
    from ..query.blocks import html_of_text
    from .pages import draw

    try:
        content = draw(place).content
    except SweepError as error:
        return html_of_text(f"No picture: {error}.")
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return f'<img alt="Field, error and courses of the study" style="width: 100%; max-width: 1000px" src="{source}">'


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
