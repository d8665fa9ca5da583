"""The pictures of a report: in its page and, where requested, as separate files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pinncore.disk import write_whole

from ..errors import StudyError
from ..figures.drawing import Format, for_dark_pages
from .page import Html, picture

Drawing = Callable[..., bytes]  # takes the keyword `format`


@dataclass
class Gallery:
    """Pictures by their names, which name their files too; `format` is the format of the files, None for no files."""

    format: Format | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    def hang(self, name: str, draw: Drawing, description: str, *, wide: bool = False, caption: bool = True) -> Html:
        """Draw a picture and return it as a figure of the page."""
        svg = draw(format="svg")
        if self.format is not None:
            self.files[f"{name}.{self.format}"] = svg if self.format == "svg" else draw(format=self.format)
        return picture(svg, for_dark_pages(svg), description, wide=wide, caption=caption)

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write the files into a folder, which is created if missing. Raises `StudyError` where that fails."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                write_whole(folder / name, content)
        except OSError as error:
            raise StudyError(f"figures cannot be written to {folder}: {error.strerror}. Give another folder.") from None
        return tuple(folder / name for name in self.files)
