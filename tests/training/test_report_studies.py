"""Studies in the report: Markdown as HTML, pictures inside, nothing of a page that runs."""

from pathlib import Path

import pytest

from m2m_model.contracts.errors import UserError
from training.report.studies import study_pages

PAGE = """# A study

3 of 6 cells, [all](table4.md). <script>alert(1)</script>

![errors](overall.svg)

## The aim

| model | NMAE |
| --- | ---: |
| M2M | 0.5 |
"""


def test_a_page_is_self_contained_and_below_the_report_s_headings(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "overall.svg").write_text("<svg/>")
    (page,) = study_pages([tmp_path])
    assert page.title == "A study"
    assert "<h3>The aim</h3>" in page.html
    assert '<div class="wide"><table>' in page.html
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in page.html
    assert "<script" not in page.html
    assert "3 of 6 cells, all." in page.html


def test_pages_beside_it_that_it_links_to_are_folded_in(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A study\n\n[cells](table4.md) [elsewhere](../other.md) [none](none.md)\n")
    (tmp_path / "table4.md").write_text("# Cells & all\n\n## Scenario a\n\nM2M\n")
    (tmp_path.parent / "other.md").write_text("# Other\n\nOther\n")
    (page,) = study_pages([tmp_path])
    assert page.html.count("<details>") == 1
    assert "<summary>Cells &amp; all</summary><h3>Scenario a</h3>" in page.html
    (alone,) = study_pages([tmp_path / "table4.md"])
    assert (alone.title, "<details>" in alone.html) == ("Cells & all", False)


def test_a_folder_without_exhibits_is_passed_over_and_a_missing_picture_named(tmp_path: Path) -> None:
    assert study_pages([tmp_path, tmp_path / "none"]) == []
    (tmp_path / "README.md").write_text(PAGE)
    with pytest.raises(UserError, match=r"overall\.svg; run make exhibits"):
        study_pages([tmp_path])
