"""Studies inside a run's report: the pages that ``make exhibits`` writes as Markdown, as HTML with their pictures."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from m2m_model.contracts.errors import UserError

PAGE = "README.md"
PICTURE_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    title: str
    html: str


def study_pages(places: Sequence[Path]) -> list[StudyPage]:
    """The exhibits of each folder that has some, or a single page; pages beside it that it links to are folded into it.

    Raises:
        UserError: a page shows a picture that is not in its folder.
    """
    files = [place if place.suffix == ".md" else place / PAGE for place in places]
    return [_page(file) for file in files if file.exists()]


def _page(file: Path) -> StudyPage:
    title, html, beside = _render(file)
    for other in beside:
        name, inner, _ = _render(other)
        html += f"<details><summary>{escape(name)}</summary>{inner}</details>"
    return StudyPage(title=title, html=html)


def _render(file: Path) -> tuple[str, str, list[Path]]:
    """Title, HTML of the rest, and the pages of the same folder that it links to."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    title, _, body = file.read_text().partition("\n")
    tokens, beside = markdown.parse(body), []
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1:]) + 1}"  # below the report's own
        for child in token.children or ():
            if child.type == "image":
                _embed(child, file)
            elif child.type == "link_open":
                beside.append(file.parent / unquote(str(child.attrs["href"])))
        # Links to files beside the page lead nowhere from the report.
        token.children = [
            child for child in token.children or () if child.type not in ("link_open", "link_close")
        ] or token.children
    html = markdown.renderer.render(tokens, markdown.options, {})
    tables = re.sub(r"<table>(.*?)</table>", r'<div class="wide"><table>\1</table></div>', html, flags=re.DOTALL)
    pages = [path for path in beside if path.suffix == ".md" and path.parent == file.parent and path.exists()]
    return title.removeprefix("# "), tables, pages


def _embed(image: Token, file: Path) -> None:
    path = file.parent / unquote(str(image.attrs["src"]))
    if path.suffix not in PICTURE_TYPES or not path.exists():
        raise UserError(f"{file} must show pictures of its folder, SVG or PNG, however: {path}; run make exhibits")
    image.attrs["src"] = f"data:{PICTURE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
