"""Progress in a notebook: one output of a cell, updated in place. IPython is used where it runs, and never imported."""

from __future__ import annotations

import contextvars
import io
import sys
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH: Final = 110  # characters
MESSAGES_SHOWN: Final = 12
_PAGE: Final = '<pre style="line-height: 1.35; white-space: pre; overflow-x: auto">{code}</pre>'
_GREY: Final = (128, 128, 128)
_FAINT: Final = "color: #808080; text-decoration-color: #808080"  # what rich makes of dim text: too little contrast
# of medium lightness, legible on light and dark pages; other text has the colour of the page
_THEME: Final = TerminalTheme(
    _GREY,
    _GREY,
    [_GREY, (214, 69, 60), (34, 137, 76), (150, 108, 20), (62, 124, 200), (150, 90, 180), (30, 145, 155), _GREY],
)


def in_notebook() -> bool:
    """Return whether this code runs in the kernel of a notebook."""
    return getattr(_shell(), "kernel", None) is not None


class NotebookView:
    """What `draw` returns, below the last messages, as one output that stays after the end.

    It may be called from any thread: outputs go to the cell in which the view was made.
    """

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw
        self._messages: deque[str] = deque(maxlen=MESSAGES_SHOWN)
        self._told = 0  # messages in all
        self._publisher = _shell().display_pub
        self._context = contextvars.copy_context()  # IPython keeps there which cell runs
        self._display_id = f"pinnsweep-{uuid.uuid4().hex}"
        self._shown: dict[str, str] | None = None

    def start(self) -> None:
        """Show the view as soon as there is something in it."""
        self.refresh()

    def refresh(self) -> None:
        """Update the output, unless it is the same; the first one has something to show."""
        content = self._content()
        if content == self._shown or not (self._shown or content["text/plain"]):
            return
        update = self._shown is not None
        self._shown = content
        self._context.copy().run(
            self._publisher.publish, content, transient={"display_id": self._display_id}, update=update
        )

    def stop(self) -> None:
        """Update the output for the last time."""
        self.refresh()

    def message(self, text: str) -> None:
        """Show a line above the view."""
        self._messages.append(text)
        self._told += 1
        self.refresh()

    def _content(self) -> dict[str, str]:
        """Return the view as HTML, every text escaped, and as plain text."""
        console = Console(
            file=io.StringIO(),
            record=True,
            width=WIDTH,
            force_jupyter=False,
            force_terminal=True,
            color_system="standard",
        )
        earlier = self._told - len(self._messages)
        lines = [f"... {earlier} earlier messages"] * (earlier > 0) + list(self._messages)
        console.print(Group(*map(Text, lines), self._draw()))
        html = console.export_html(theme=_THEME, code_format=_PAGE, inline_styles=True, clear=False)
        html = html.replace(_FAINT, "opacity: 0.7")
        return {"text/html": html, "text/plain": console.export_text().rstrip()}


def _shell() -> Any:
    """Return the shell of IPython, None where there is none."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()
