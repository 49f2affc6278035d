"""The figures as a page of tables. Nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(results: Mapping[str, Any]) -> str:
    """What benchmarks/gpu.py keeps in results.json, to be read by people."""
    kind = "Toy run on a CPU: these figures say that the script works, and nothing else." if results["toy"] else ""
    lines = ["# Benchmarks on a GPU", "", f"Commit {results['commit']}, {results['date']}. {kind}".rstrip(), ""]
    for phase in results["phases"]:
        lines += [f"## {phase['title']}", "", f"{phase['about']} {_state(phase)}", ""]
        if phase["rows"]:
            lines += [*table(phase["rows"]), ""]
    return "\n".join(lines)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table of rows, with every column that any of them has; of rows of one name the last counts."""
    latest = {row["name"]: row for row in rows}
    columns = [title for title in dict.fromkeys(key for row in rows for key in row) if title != "name"]
    columns = [title for title in columns if any(row.get(title) is not None for row in latest.values())]
    lines = [f"| {' | '.join(['', *columns])} |", "|" + " --- |" * (1 + len(columns))]
    for name, row in latest.items():
        lines.append(f"| {' | '.join([name, *(_words(row.get(title)) for title in columns)])} |")
    return lines


def _state(phase: Mapping[str, Any]) -> str:
    seconds = phase.get("seconds")
    took = "" if seconds is None else f" after {seconds:.0f} s"
    reason = phase.get("reason")
    return f"**{phase['status'].capitalize()}**{took}{f': {reason}' if reason else ''}."


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return " ".join(str(value).split()).replace("|", "/")
