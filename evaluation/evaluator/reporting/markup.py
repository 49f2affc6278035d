"""Rows of tables in Markdown, text in LaTeX, and numbers of things."""

from __future__ import annotations

from collections.abc import Sequence

_LATEX: dict[str, str] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "δ": r"$\delta$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "°": r"$^\circ$",
}


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a table; what would end a cell or the row is taken out of it."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def counted(number: int, noun: str) -> str:
    """So many of them: "1 clip", "2 clips"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def latex_text(text: str) -> str:
    """Text with LaTeX's own signs escaped, and those of tables as mathematics."""
    return "".join(_LATEX.get(character, character) for character in text)
