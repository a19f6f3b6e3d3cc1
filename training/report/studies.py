"""Studies inside a run's report: the pages that ``make exhibits`` writes as Markdown, as HTML with their pictures."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
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


def study_pages(folders: Sequence[Path]) -> list[StudyPage]:
    """The exhibits of each folder that has some.

    Raises:
        UserError: a page shows a picture that is not in its folder.
    """
    return [_page(folder) for folder in folders if (folder / PAGE).exists()]


def _page(folder: Path) -> StudyPage:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    title, _, body = (folder / PAGE).read_text().partition("\n")
    tokens = markdown.parse(body)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1:]) + 1}"  # below the report's own
        # Links to files beside the page lead nowhere from the report.
        token.children = [
            child for child in token.children or () if child.type not in ("link_open", "link_close")
        ] or token.children
        for child in token.children or ():
            if child.type == "image":
                _embed(child, folder)
    html = markdown.renderer.render(tokens, markdown.options, {})
    tables = re.sub(r"<table>(.*?)</table>", r'<div class="wide"><table>\1</table></div>', html, flags=re.DOTALL)
    return StudyPage(title=title.removeprefix("# "), html=tables)


def _embed(image: Token, folder: Path) -> None:
    path = folder / unquote(str(image.attrs["src"]))
    if path.suffix not in PICTURE_TYPES or not path.exists():
        raise UserError(
            f"{folder / PAGE} must show pictures of its folder, SVG or PNG, however: {path}; run make exhibits"
        )
    image.attrs["src"] = f"data:{PICTURE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
