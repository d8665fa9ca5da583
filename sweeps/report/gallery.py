"""The pictures of a report: in its page and, where requested, as separate files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from pinncore.disk import write_whole

from ..errors import StudyError, listed
from ..figures.drawing import Format, for_dark_pages, picture_bytes
from .page import Html, picture


@dataclass
class Gallery:
    """Pictures by their names, which name their files too; `format` is the format of the files, None for no files."""

    format: Format | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    def hang(
        self,
        name: str,
        figure: Figure,
        description: str,
        *,
        wide: bool = False,
        caption: bool = False,
        zoom: bool = False,
    ) -> Html:
        """Draw a picture and return it as a figure of the page, its description below where it is the `caption`.

        One with `zoom` gets larger where it is clicked.
        """
        svg = picture_bytes(figure)
        if self.format is not None:
            self.files[f"{name}.{self.format}"] = svg if self.format == "svg" else picture_bytes(figure, self.format)
        return picture(svg, for_dark_pages(svg), description, wide=wide, caption=caption, zoom=zoom)

    def refuse_taken(self, folder: Path) -> None:
        """Raise `StudyError` where a folder has files of these names already."""
        taken = [name for name in self.files if (folder / name).exists()]
        if taken:
            raise StudyError(
                f"{folder} has these figures already: {listed(taken, 3)}. Add --force (in Python: force=True) to "
                "replace them, or give another folder"
            )

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write the files into a folder, which is created if missing. Raises `StudyError` where that fails."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                write_whole(folder / name, content)
        except OSError as error:
            raise StudyError(f"figures cannot be written to {folder}: {error.strerror}. Give another folder.") from None
        return tuple(folder / name for name in self.files)
