"""Commands and Python that README, the docs and the programs' first lines tell people to type."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CARD = ROOT / "page4d_hf/weights/tiny/README.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", CARD, *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [
    path for folder in ("benchmarks", "evaluation", "training") for path in sorted((ROOT / folder).glob("*.py"))
]
OTHERS = ("for", "done", "source", "export", "pip", "make", "colmap", "ffmpeg", "hf", "ssh", "benchmarks/gpu_bundle.sh")
SENTENCES = r"""(?x)`(
    (?: python\ (?:benchmarks|evaluation|training)/\S+\.py\ [^`]*--
      | accelerate\ launch\ [^`]*\.py\ --
      | ns-train\ \S+\ --data\ \w
      | page4d\ (?:convert|export|pull|reconstruct|splat|synth|view)\ \w
    )[^`]*)`"""


def fences(language: str) -> list[tuple[str, str]]:
    """Fenced blocks of a language, without what they are indented by, and where they stand."""
    found = []
    for page in PAGES:
        for indent, block in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.M | re.S):
            name = page.relative_to(ROOT).as_posix()
            found.append((name, "\n".join(line.removeprefix(indent) for line in block.splitlines())))
    return found


def in_sentences() -> list[tuple[str, str]]:
    """Commands within sentences, and where they are."""
    return [
        (page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in re.findall(SENTENCES, page.read_text())
    ]


def in_programs() -> list[tuple[str, str]]:
    """Commands in the first lines of programs."""
    found = []
    for path in PROGRAMS:
        told = (ast.get_docstring(ast.parse(path.read_text())) or "").replace("\\\n", " ")
        lines = re.findall(r"^ *((?:page4d|python|accelerate launch|ns-\w+) .*)", told, re.M)
        found += [(path.relative_to(ROOT).as_posix(), line) for line in lines]
    return found


def command_lines() -> list[tuple[str, list[str]]]:
    """The words of each command, once, and where it first stands; without those in which a word stands for others."""
    lines: dict[tuple[str, ...], str] = {}
    for page, block in [*fences("bash"), *in_sentences(), *in_programs()]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] not in OTHERS and "=" not in words[0]:
                lines.setdefault(tuple(words), page)
    stands = re.compile(r"(^|\s)\.\.\.|\.\.\.$|\b[A-Z]{3,}\b|\|")
    return [(page, list(words)) for words, page in lines.items() if not stands.search(" ".join(words))]
