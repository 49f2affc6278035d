"""JSON files: what fits a schema, and what is said of that which does not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fuzzing import check_reader
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from page4d_hf.errors import CaptureError, CheckpointError, Page4DError
from page4d_hf.utils import json_files
from page4d_hf.utils.json_files import (
    Fault,
    OrFault,
    Record,
    json_group_values,
    parse_json,
    read_json,
    read_json_group,
    read_json_members,
)


class Lens(Record):
    focal: Annotated[float, Field(gt=0)]
    size: list[int]
    kind: Literal["pinhole", "fisheye"] = "pinhole"


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd, and sides are even.")
    if value == 0:
        raise ValueError("should be above 0")
    return value


NESTED = "[" * 100_000 + "]" * 100_000


def test_a_file_becomes_what_its_schema_says(tmp_path: Path) -> None:
    (tmp_path / "lens.json").write_text('{"focal": 2, "size": [4, 3], "unknown": null}')
    lens = read_json(tmp_path / "lens.json", Lens)
    assert (lens.focal, lens.size, lens.kind) == (2.0, [4, 3], "pinhole")


def test_a_byte_order_mark_and_gzip_are_seen_through(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbf{"a": 1}'
    (tmp_path / "a.json").write_bytes(text)
    for suffix in (".gz", ".jgz"):
        (tmp_path / f"a{suffix}").write_bytes(gzip.compress(text))
    assert [read_json(tmp_path / name) for name in ("a.json", "a.gz", "a.jgz")] == [{"a": 1}] * 3
    assert parse_json("\ufeff[1]", list[int], "it") == [1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("null", "does not hold what it should: it should be an object, got null"),
        ('[null, true, "None"]', "does not hold what it should: it should be an object, got [null, true, 'None']"),
        ("[1, 2]", "does not hold what it should: it should be an object, got [1, 2]"),
        ('{"size": [1]}', "lacks focal"),
        ('{"focal": 0, "size": []}', "does not hold what it should at focal: it should be greater than 0, got 0"),
        ('{"focal": "2", "size": []}', "does not hold what it should at focal: it should be a valid number, got '2'"),
        ('{"focal": NaN, "size": []}', "does not hold what it should at focal: it should be a finite number, got nan"),
        (
            '{"focal": 1e400, "size": []}',
            "does not hold what it should at focal: it should be a finite number, got inf",
        ),
        (
            '{"focal": 1, "size": [1, 2.5]}',
            "does not hold what it should at size.1: it should be a valid integer, got 2.5",
        ),
        (
            '{"focal": 1, "size": {"a": 1}}',
            "does not hold what it should at size: it should be a valid array, got {'a': 1}",
        ),
        (
            '{"focal": 1, "size": [], "kind": "x"}',
            "does not hold what it should at kind: it should be 'pinhole' or 'fisheye', got 'x'",
        ),
        ("", "cannot be read as JSON (EOF while parsing a value at line 1 column 0)"),
        ('{"focal": 1', "cannot be read as JSON (EOF while parsing an object at line 1 column 11)"),
        ('["\\ud800"]', "cannot be read as JSON (unexpected end of hex escape at line 1 column 9)"),
        (NESTED, "cannot be read as JSON (recursion limit exceeded at line 1 column 202)"),
        (f'{{"focal": 1, "size": [], "other": {NESTED}}}', "cannot be read as JSON (recursion limit exceeded"),
        ("9" * 5000, "cannot be read as JSON (number out of range"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "lens.json"
    path.write_text(text)
    with pytest.raises(CaptureError) as error:
        read_json(path, Lens)
    assert str(error.value).startswith(f"{path} {sentence}")
    assert str(error.value).endswith("; fetch it again.")


def test_a_number_of_400_digits_is_told_by_its_ends() -> None:
    with pytest.raises(
        CaptureError,
        match=r"^it does not hold what it should at focal: it should be a finite number, got 9+\.\.\.9+; fetch",
    ) as error:
        parse_json(f'{{"focal": {"9" * 400}, "size": []}}', Lens, "it")
    assert len(str(error.value)) < 200


def test_a_key_with_a_line_break_stays_in_one_line() -> None:
    with pytest.raises(
        CaptureError, match=r"it does not hold what it should at 'a\\nb': it should be a valid integer, got 'x'"
    ):
        parse_json('{"a\\nb": "x"}', dict[str, int], "it")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    side: Annotated[int, AfterValidator(even)] = 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"sides": 2}', "it has sides, which does not exist; fetch it again."),
        ('{"side": 3}', "it does not hold what it should at side: 3 is odd, and sides are even; fetch it again."),
        ('{"side": 0}', "it does not hold what it should at side: it should be above 0, got 0; fetch it again."),
    ],
)
def test_a_validators_own_sentence_and_a_field_too_many_are_told(text: str, sentence: str) -> None:
    with pytest.raises(CaptureError) as error:
        parse_json(text, Closed, "it")
    assert str(error.value) == sentence


def test_the_callers_own_error_and_remedy_are_used(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json is missing; save the model again\.$"):
        read_json(tmp_path / "config.json", error=CheckpointError, remedy="save the model again")


def test_what_may_be_broken_is_kept_as_a_fault() -> None:
    schema = list[Annotated[Lens, OrFault]]
    good, bad = parse_json('[{"focal": 1, "size": [4, 3]}, {"focal": 1, "size": "x"}]', schema, "it")
    assert good.size == [4, 3]
    assert isinstance(bad, Fault)
    assert bad == "does not hold what it should at size: it should be a valid list, got 'x'"


@pytest.mark.parametrize("name", ["a.json", "a.jgz"])
def test_a_file_beyond_the_bound_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(json_files, "MOST_BYTES", 2**21)
    text = b"[" + b" " * 2**22 + b"]"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("jgz") else text)
    with pytest.raises(CaptureError, match=rf"{name} holds more than the 2 MiB that are read; fetch it again"):
        read_json(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (tmp_path / "zero.json", tmp_path):
        with pytest.raises(CaptureError, match="is a folder or a device, not a file"):
            read_json(path)
    for name in ("a\0b", "x" * 300):
        with pytest.raises(CaptureError, match="cannot be read as JSON"):
            read_json(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b", b"text", gzip.compress(b"[1, 2, 3]", mtime=0)[:-9]])
def test_broken_gzip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jgz").write_bytes(data)
    with pytest.raises(CaptureError, match=r"a\.jgz cannot be read as JSON"):
        read_json(tmp_path / "a.jgz")


# --------------------------------------------------------------------------------------------------------------------
# Lists by group, objects by member


class Frame(Record):
    name: str
    number: int


FRAMES: list[dict[str, Any]] = [{"name": "a", "number": 1}, {"name": "b", "number": 2}, {"name": "a", "number": 3}]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    path = tmp_path / "frames.json"
    path.write_text(json.dumps(FRAMES))
    return path


def test_a_group_is_read_against_its_schema(frames: Path) -> None:
    assert [frame.number for frame in read_json_group(frames, Frame, name="a")] == [1, 3]
    assert read_json_group(frames, Frame, name="c") == []
    assert json_group_values(frames, "name") == [("a",), ("b",)]


def test_a_broken_entry_costs_the_groups_that_have_it_alone(frames: Path) -> None:
    frames.write_text(json.dumps([*FRAMES, {"name": "b", "number": "4"}]))
    assert len(read_json_group(frames, Frame, name="a")) == 2
    with pytest.raises(
        CaptureError,
        match=r"frames\.json, in an entry of b, does not .* at number: it should be a valid integer, got '4'",
    ):
        read_json_group(frames, Frame, name="b")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("null", "must hold a JSON list, but starts with 'null'"),
        ('{"name": "a"}', "must hold a JSON list, but starts with"),
        ("[1]", "must hold a list of objects with strings as name, got 1"),
        ('[{"number": 1}]', "must hold a list of objects with strings as name, got {'number': 1}"),
        ('[{"name": ["a"]}]', "must hold a list of objects with strings as name, got {'name': ['a']}"),
        ('[{"name": "a"}', "cannot be read as JSON"),
        (f"[{NESTED}]", "cannot be read as JSON"),
        (f'[{{"name": "a", "number": {"9" * 5000}}}]', "cannot be read as JSON"),
        ("", "must hold a JSON list, but starts with ''"),
    ],
)
def test_a_list_of_another_shape_is_refused(frames: Path, text: str, sentence: str) -> None:
    frames.write_text(text)
    for read in (lambda: json_group_values(frames, "name"), lambda: read_json_group(frames, Frame, name="a")):
        with pytest.raises(CaptureError) as error:
            read()
        assert str(error.value).startswith(f"{frames} {sentence}")


def test_a_list_beyond_the_bound_is_refused(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MOST_BYTES_IN_GROUPS", 2**21)
    frames.write_text("[" + " " * 2**22 + "]")
    with pytest.raises(CaptureError, match="holds more than the 2 MiB that are read"):
        json_group_values(frames, "name")


def test_members_are_given_as_text(tmp_path: Path) -> None:
    path = tmp_path / "members.json"
    path.write_text('{"a": [1, NaN, Infinity], "b": null}')
    members = read_json_members(path)
    assert members == {"a": "[1, NaN, Infinity]", "b": "null"}
    assert len(parse_json(members["a"], list[Any], "it")) == 3
    path.write_text("[1]")
    with pytest.raises(
        CaptureError, match=r"members\.json does not hold what it should: it should be an object, got \[1\]"
    ):
        read_json_members(path)


def test_damaged_json_ends_in_a_reading_or_a_sentence(tmp_path: Path) -> None:
    files = [tmp_path / "frames.json", tmp_path / "frames.jgz", tmp_path / "members.json"]
    files[0].write_text(json.dumps(FRAMES))
    files[1].write_bytes(gzip.compress(json.dumps(FRAMES).encode()))
    files[2].write_text(json.dumps({frame["name"]: frame for frame in FRAMES}))

    def read() -> None:
        faults = []
        for path, call in (
            (files[0], lambda path: read_json(path, list[Frame])),
            (files[0], lambda path: read_json_group(path, Frame, name="a")),
            (files[1], lambda path: read_json_group(path, Frame, name="a")),
            (files[2], lambda path: [parse_json(text, Frame, path) for text in read_json_members(path).values()]),
        ):
            try:
                call(path)
            except Page4DError as error:
                faults.append(error)
        if faults:
            raise faults[0]

    check_reader(read, files, rounds=150)
