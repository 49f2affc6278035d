"""The one writer of tables: rows of text as Markdown and as LaTeX, by pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import not_installed

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "-"  # in a cell for which there is no figure

_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": "$<$", ">": "$>$", "≥": r"$\geq$", "≤": r"$\leq$", "±": r"$\pm$", "δ": r"$\delta$"},
        **{"↓": r"$\downarrow$", "↑": r"$\uparrow$", "°": r"$^\circ$"},
    }
)
# What would end a cell or the row.
_MARKDOWN = str.maketrans({"|": "\\|", "\n": " "})


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, labels: int = 1) -> str:
    """A table in Markdown, without a line break at its end.

    Args:
        columns: their titles.
        rows: of as many cells.
        labels: how many columns, from the first, hold words and are aligned to the left; the others hold figures.
    """
    frame = _frame(columns, rows, _MARKDOWN)
    sides = ["left"] * labels + ["right"] * (len(columns) - labels)
    # Text stays as it is: "0.300" is no number to be written anew.
    text: str = frame.to_markdown(index=False, disable_numparse=True, colalign=sides[: len(columns)])
    return text


def latex_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, labels: int = 1) -> str:
    """A table's `tabular` in LaTeX, for the package booktabs; arguments as of `markdown_table`."""
    sides = "l" * labels + "r" * (len(columns) - labels)
    text: str = _frame(columns, rows, _LATEX).to_latex(index=False, column_format=sides)
    return text


def latex_text(text: str) -> str:
    """Text with LaTeX's own signs escaped, and those of tables as mathematics."""
    return text.translate(_LATEX)


def spread(value: float | None, form: str = ".4g", deviation: float | None = None) -> str:
    """A figure, and where there is one its deviation, for a cell: "0.127 ± 0.004"."""
    if value is None:
        return NOTHING
    return f"{value:{form}}" + ("" if deviation is None else f" ± {deviation:.2g}")


def pandas_library() -> Any:
    """The package `pandas`, with what it writes Markdown by; it takes half a second, which --help does without.

    Raises:
        Page4DError: one of them is not installed.
    """
    try:
        import pandas
        import tabulate  # noqa: F401 - `to_markdown` imports it
    except ImportError as error:
        raise Page4DError(not_installed(f"Tables are written by the package {error.name}", "evaluation")) from error
    return pandas


def _frame(columns: Sequence[str], rows: Iterable[Sequence[str]], signs: dict[int, str]) -> pd.DataFrame:
    body = [[cell.translate(signs) for cell in row] for row in rows]
    titles = [title.translate(signs) for title in columns]
    frame: pd.DataFrame = pandas_library().DataFrame(body, columns=titles, dtype=object)
    return frame
