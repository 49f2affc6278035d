"""Tables: the paper's rows, one's own, and what they leave out."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from evaluator.compare.novel_views import FIGURES as NOVEL_VIEWS
from evaluator.metrics.scores import EvaluationError
from evaluator.reporting import tables
from evaluator.reporting.paper_figures import TABLES, paper_rows
from evaluator.reporting.tables import COLUMNS, Table, latex, make_table, write_tables
from table_text import squeezed


def result(mask: str = "on", **changes: Any) -> dict[str, Any]:
    """A result as `result.json` has it."""
    sequences = [
        {"name": f"final/{name}", "figures": {"abs_rel": figure}, "weight": 1.0, "counts": {"frames": 50}, "notes": []}
        for name, figure in (("alley_1", 0.2), ("alley_2", 0.4))
    ]
    return {
        "task": "video-depth",
        "dataset": "sintel",
        "method": "tiny",
        "protocol": {"name": "page4d", "text": "one scale for a sequence, below 70 m.", "alignment": "scale"},
        "selection": {"text": "22 sequences of the split final.", "published": True},
        "inference": {"text": "Images 518 pixels wide.", "resolution": 518},
        "model": {"name": "tiny", "revision": "weights 12", "mask": mask, "device": "cpu", "dtype": "float32"},
        "averages": {"abs_rel": 0.3, "delta_1.25": 0.5},
        "sequences": sequences,
        "excluded": {},
        **changes,
    }


def markdown(table: Table) -> str:
    return squeezed(tables.markdown(table))


def line_of(text: str, start: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line


def test_the_papers_figures_stand_above_ones_own() -> None:
    lines = markdown(make_table([result()])).splitlines()
    assert "| method | Abs Rel ↓ | δ<1.25 ↑ | Abs Rel, scale&shift ↓ | δ<1.25, scale&shift ↑ | sequences |" in lines
    paper = lines.index("| PAGE-4D | 0.357 | 0.699 | 0.212 | 0.763 | paper |")
    assert paper < lines.index("| tiny, mask on | 0.300 | 0.500 | - | - | 2 of 2 |")


@pytest.mark.parametrize(
    ("sentence", "plainly", "changes"),
    [
        ("not measured by this program", True, {"dataset": "tum"}),
        ("The protocol is theirs", True, {"protocol": {"name": "cut3r", "text": "each frame's own depth."}}),
        (
            "They were not made under this protocol (page4d is theirs)",
            False,
            {"protocol": {"name": "cut3r", "text": "each frame's own depth."}},
        ),
        ("Averages over some of the sequences alone", False, {"excluded": {"final/ambush_2": "No depth."}}),
        ("its rows cannot be compared", False, {"selection": {"text": "all.", "published": False}}),
    ],
)
def test_a_table_says_how_the_papers_rows_compare_to_ones_own(
    sentence: str, plainly: bool, changes: dict[str, Any]
) -> None:
    """`plainly`: the sentence is that of a run as the paper's was, and not of one that differs."""
    assert (sentence in markdown(make_table([result()]))) == plainly
    assert (sentence in markdown(make_table([result(**changes)]))) != plainly


def test_a_data_set_that_the_paper_lacks_has_no_paper_rows() -> None:
    assert "paper" not in markdown(make_table([result(dataset="tum")]))


def test_a_width_other_than_the_protocols_stands_in_the_row_itself() -> None:
    narrow = result(inference={"text": "Images 112 pixels wide.", "resolution": 112})
    assert "| tiny, mask on, 112 pixels wide | 0.300 |" in markdown(make_table([result(), narrow]))


def test_figures_of_captures_in_their_own_units_are_not_in_metres() -> None:
    figures = {"ate": 0.1}
    for dataset, title in (("tum", "| ATE (m) ↓ |"), ("nerfies", "| ATE ↓ |")):
        assert title in markdown(make_table([result(task="pose", dataset=dataset, averages=figures, sequences=[])]))


def test_a_row_of_no_model_says_what_it_is() -> None:
    text = markdown(make_table([result(), result(model=None, inference=None, trivial=True, method="trivial")]))
    assert "| trivial | 0.300 |" in text
    assert "- trivial: no model. Depth is the same everywhere; the camera stands still" in text


def test_a_table_names_its_protocol_frames_weights_and_versions_of_input() -> None:
    for text in (markdown(make_table([result()])), latex(make_table([result()]))):
        for words in ("one scale for a sequence, below 70 m.", "22 sequences", "weights 12", "518 pixels"):
            assert words in text


def test_excluded_sequences_are_counted_and_named_with_their_reason() -> None:
    excluded = {"cave_2": "not there", "cave_4": "not there", "shaman_3": "no depth."}
    text = markdown(make_table([result(excluded=excluded)]))
    assert line_of(text, "| tiny").endswith("| 2 of 5 |")
    assert "tiny, mask on: 3 excluded: cave_2, cave_4 (not there); shaman_3 (no depth)." in text


def test_a_run_in_which_nothing_counts_has_no_figures() -> None:
    text = markdown(make_table([result(sequences=[], averages={}, excluded={"a": "no depth"})]))
    assert line_of(text, "| tiny") == "| tiny, mask on | - | - | - | - | 0 of 1 |"


def test_every_sequence_has_a_line_of_its_own() -> None:
    text = markdown(make_table([result()]))
    assert line_of(text, "| final/alley_2") == "| final/alley_2 | 0.400 | - | - | - | 50 |"


def test_what_is_to_be_known_of_a_sequence_is_told() -> None:
    changed = result()
    changed["sequences"][0]["notes"] = ["It has 9 of the 90 frames."]
    assert "tiny, mask on: final/alley_1: It has 9 of the 90 frames." in markdown(make_table([changed]))


def test_the_same_code_with_the_mask_off_has_a_row_where_its_result_lies_beside(tmp_path: Path) -> None:
    others = {
        "vggt": result("off", averages={"abs_rel": 0.6}),
        "bonn": result(dataset="bonn", method="other"),
        "cut3r": result(protocol={"name": "cut3r", "text": "another."}, method="another"),
    }
    for name, each in others.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(each))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/result.json").write_text("{")
    (tmp_path / "mine").mkdir()
    write_tables(tmp_path / "mine", result())
    text = squeezed((tmp_path / "mine/table.md").read_text())
    assert line_of(text, "| tiny, mask off") == "| tiny, mask off | 0.600 | - | - | - | 2 of 2 |"
    assert "other" not in [line.split()[1] for line in text.splitlines() if line.startswith("| ")]


def test_the_same_run_in_another_folder_has_no_second_row(tmp_path: Path) -> None:
    for name in ("again", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result()))
    write_tables(tmp_path / "mine", result())
    assert line_of(squeezed((tmp_path / "mine/table.md").read_text()), "| tiny")


def test_rows_of_other_files_of_a_sequence_are_named_and_those_of_other_sequences_are_not() -> None:
    first = result(data={"final/alley_1": "1", "final/alley_2": "2"})
    other = result("off", data={"final/alley_1": "1", "final/alley_2": "3", "final/cave_2": "4"})
    sentence = "Row 2, tiny, mask off: not to be compared with row 1, tiny, mask on, as it was made on other files of 1"
    assert sentence in markdown(make_table([first, other]))
    assert "not to be compared" not in markdown(make_table([first, result("off", data={"final/cave_2": "4"})]))


@pytest.mark.parametrize("name", ["task", "dataset", "protocol", "selection"])
def test_results_that_differ_in_what_they_evaluate_never_share_a_table(name: str) -> None:
    other = copy.deepcopy(result("off"))
    other[name] = {"name": "x", "text": "y"} if name in ("protocol", "selection") else "pose"
    with pytest.raises(EvaluationError, match=f"Results of different {name} don't go into one table"):
        make_table([result(), other])


def test_a_row_of_latex_has_as_many_cells_as_columns() -> None:
    text = latex(make_table([result(), result("off")]))
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {5}
    assert r"\begin{tabular}{lrrrrr}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_typesets_the_table(tmp_path: Path) -> None:
    body = latex(make_table([result(excluded={"a_b": "50 % < 3"})]))
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}" + body + "\\end{document}"
    (tmp_path / "table.tex").write_text(document)
    run = ["pdflatex", "-halt-on-error", "-interaction=batchmode", "table.tex"]
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, check=False).returncode == 0


# --------------------------------------------------------------------------------------------------------------------
# The paper's figures


def test_every_figure_of_the_paper_has_a_column() -> None:
    for table in TABLES:
        known = set(NOVEL_VIEWS) if table.task == "novel-views" else {column.key for column in COLUMNS[table.task]}
        for dataset in table.datasets:
            assert all(set(figures) <= known for figures in paper_rows(table.task, dataset).values())


@pytest.mark.parametrize(
    ("task", "dataset", "prefix", "method", "figures"),
    [
        ("video-depth", "sintel", "", "PAGE-4D", (0.357, 0.699)),
        ("video-depth", "sintel", "", "VGGT", (0.484, 0.553)),
        ("video-depth", "bonn", "scale&shift/", "PAGE-4D", (0.090, 0.903)),
        ("video-depth", "dycheck", "scale&shift/", "PAGE-4D", (0.145, 0.854)),
        ("mono-depth", "bonn", "", "PAGE-4D", (0.053, 0.970)),
        ("pose", "tum", "", "VGGT", (0.028, 0.014, 0.371)),
        ("points", "dycheck", "", "PAGE-4D", (0.403, 0.284, 1.222, 0.728, 1.115, 0.559)),
    ],
)
def test_the_papers_figures_are_found(
    task: str, dataset: str, prefix: str, method: str, figures: tuple[float, ...]
) -> None:
    found = paper_rows(task, dataset)[method]
    of_alignment = [name for name in found if name.startswith(prefix) and ("/" in name) == bool(prefix)]
    assert tuple(found[name] for name in of_alignment) == figures


def test_overall_is_the_mean_of_accuracy_and_completion_but_where_the_remark_says_otherwise() -> None:
    for method, figures in paper_rows("points", "dycheck").items():
        for kind in ("mean", "median"):
            mean = (figures[f"accuracy_{kind}"] + figures[f"completion_{kind}"]) / 2
            agrees = abs(mean - figures[f"overall_{kind}"]) < 0.004
            assert agrees == (method not in ("PAGE-4D", "DAS3R"))
