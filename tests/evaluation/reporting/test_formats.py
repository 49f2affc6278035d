"""The one writer of tables: cells stay as they are, and what would break a table is escaped."""

from __future__ import annotations

import sys

import pytest
from evaluator.reporting.formats import latex_table, markdown_table, spread
from table_text import squeezed

from page4d_hf.errors import Page4DError


def test_numbers_stand_in_markdown_as_they_were_written() -> None:
    table = squeezed(markdown_table(["row", "PSNR ↑", "n"], [["a", "0.300", "1,234"], ["b", "20.10 ± 0.2", "-"]]))
    assert "| a | 0.300 | 1,234 |" in table
    assert "| b | 20.10 ± 0.2 | - |" in table


@pytest.mark.parametrize(("cell", "written"), [("a|b", "a\\|b"), ("a\nb", "a b")])
def test_what_would_end_a_cell_or_a_row_of_markdown_is_escaped(cell: str, written: str) -> None:
    head, _, row = markdown_table([cell, "x"], [[cell, "1"]]).splitlines()
    assert written in head
    assert written in row


def test_a_table_of_latex_has_its_signs_escaped_and_words_to_the_left() -> None:
    table = latex_table(["a_b", "δ < 1.25 ↑"], [["50 %", "0.300"]])
    assert r"\begin{tabular}{lr}" in table
    assert r"a\_b & $\delta$ $<$ 1.25 $\uparrow$ \\" in table
    assert r"50 \% & 0.300 \\" in table


@pytest.mark.parametrize("package", ["pandas", "tabulate"])
def test_a_table_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Page4DError, match=rf"the package {package}, .*pip install .*\[evaluation\]"):
        markdown_table(["row", "n"], [["a", "1"]])


def test_a_table_without_rows_has_its_head() -> None:
    assert "PSNR" in markdown_table(["row", "PSNR"], [])


@pytest.mark.parametrize(
    ("value", "deviation", "cell"), [(None, 0.1, "-"), (0.12345, None, "0.1235"), (2, 0.1, "2 ± 0.1")]
)
def test_a_cell_has_a_figure_and_its_deviation_where_there_is_one(
    value: float | None, deviation: float | None, cell: str
) -> None:
    assert spread(value, deviation=deviation) == cell
