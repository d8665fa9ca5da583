"""Pages of the documentation as tests read them: fenced blocks, indented ones, headings, links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("examples/*/README.md")])
LINKING = sorted([*PAGES, *ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md")])  # pages whose links are followed
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the number of its first line, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, all or those of one language, in their order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text.count("\n", 0, fence.start()) + 2, *fence.groups()) for fence in FENCED.finditer(text)]
    return [block for block in found if language in (None, block.language)]


def indented(page: Path) -> list[str]:
    """Return the first lines of indented blocks, which have no language."""
    lines = FENCED.sub("", page.read_text(encoding="utf-8")).splitlines()
    return [line for before, line in zip(["", *lines], lines, strict=False) if not before and line.startswith("    ")]


def lines_of(block: Block) -> list[str]:
    """Return the command lines of a block of shell: without comments and empty lines."""
    return [line for line in block.text.splitlines() if line.strip() and not line.startswith("#")]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them."""
    headings = re.findall(r"^#{1,6} +(.*?)\s*#*$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    seen, found = Counter[str](), set[str]()
    for heading in headings:
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures, those to other sites left out."""
    text = re.sub(r"`[^`\n]*`", "``", FENCED.sub("", page.read_text(encoding="utf-8")))
    for target in dict.fromkeys([*LINK.findall(text), *re.findall(r'(?:src|srcset|href)="([^"]+)"', text)]):
        if not re.match(r"[a-z]+:", target):
            yield target
