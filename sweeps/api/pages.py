"""The report and the picture of a study, as files and in a notebook."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cluster.scratch import scratch_folder

from ..errors import StudyError
from ..storage.object_store import Remote

_HEIGHT: Final = 720  # of a page in a notebook, in pixels
_WIDTH: Final = 1000  # of a picture in a notebook, in pixels


@dataclass(frozen=True)
class Report:
    """The report of a study: the file of its page, and those of its figures where they were requested."""

    path: Path
    figures: tuple[Path, ...] = ()

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        try:
            page = self.path.read_text(encoding="utf-8")
        except OSError as error:
            return f"<p>{html.escape(str(self.path))} cannot be read: {html.escape(str(error.strerror))}</p>"
        style = f"width: 100%; height: {_HEIGHT}px; border: 1px solid #8888"
        title = html.escape(f"Report in {self.path}")
        return f'<iframe title="{title}" srcdoc="{html.escape(page)}" sandbox="" style="{style}"></iframe>'


@dataclass(frozen=True, repr=False)
class Picture:
    """A picture as the bytes of a PNG file; a notebook shows it."""

    content: bytes

    def __repr__(self) -> str:
        return f"<picture, {len(self.content):,} bytes of PNG>"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the file and return its path. Raises `StudyError` where it exists already, unless `force`."""
        file = Path(path)
        _refuse_taken(file, force=force)
        try:
            file.write_bytes(self.content)
        except OSError as error:
            raise StudyError(f"{file} cannot be written: {error.strerror}. Give another file.") from None
        return file

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.content, {"width": _WIDTH}


def write(
    place: Path | Remote,
    path: str | os.PathLike[str] | None,
    *,
    figures: str | os.PathLike[str] | None,
    format: Literal["svg", "png"],
    force: bool,
) -> Report:
    """Write the report of a study, as `Study.report` says."""
    from ..report import write_report

    out = None if path is None else Path(path)
    if out is not None:
        _refuse_taken(out, force=force)
    folder = None if figures is None else Path(figures)
    written = write_report(Path(str(place)), out, figures=folder, format=format, force=force)
    return Report(written.page.absolute(), written.figures)


def draw(place: Path | Remote) -> Picture:
    """Draw the picture of a study, as `Study.picture` says."""
    from ..report import write_picture

    with scratch_folder("picture") as folder:
        return Picture(write_picture(Path(str(place)), folder / "study.png").read_bytes())


def _refuse_taken(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise StudyError(f"{file} exists already: write force=True to replace it, or give another name")
