"""A data set of clips on disk: Parquet shards that are either whole or absent, and a run that can be taken up again.

    output/
        data/train-00000.parquet ...        whole shards; a hidden `.train-*` is one that was being written
        data/validation-00000.parquet ...
        clips.json                          options and sequences of the run, and whether it has ended
        skipped.txt                         what was left out, and why
        README.md                           data card, once the run has ended

`datasets.load_dataset("output")` reads the folder, as does the Hub once it is uploaded.

Order. Sequences come in the order that the caller draws, the clips of a sequence one after the other, and the rows of a
shard are shuffled, again by the seed. A shard is closed as soon as it is large enough, so what it holds depends on the
order alone, and a run that was killed and taken up again writes the same shards as one that was not. A wider shuffle
is the reader's: a shard holds whole clips of one or several sequences.

State. Each shard names in its footer the clips that it covers, those left out included, and the sequences that ended
in it. Nothing else says what is done, so nothing can contradict it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ..errors import ClipError, Page4DError
from ..utils.folders import FULL, make_durable, whole_file, working_folder
from ..utils.json_files import Record, parse_json, read_json
from .encoding import EncodedClip, Skip
from .schema import COLUMNS, NULLABLE, SCHEMA_VERSION, clip_features

RECORD = "clips.json"
SKIPPED = "skipped.txt"
FOOTER = b"page4d_clips"
SPLITS = ("train", "validation")


class _Earlier(Record):
    """`clips.json`."""

    schema_: int = Field(alias="schema")
    options: dict[str, Any]
    sequences: dict[str, list[str]]
    complete: bool = False
    skipped: int | None = None  # once it is complete


class _Footer(Record):
    """A shard's footer."""

    frames: int
    covered: list[str]
    ended: list[str]
    skipped: list[Skip]


@dataclass
class WrittenSplit:
    """Counts of what a split holds so far."""

    clips: int = 0
    frames: int = 0
    shards: int = 0

    def add_shard(self, clips: int, frames: int) -> None:
        self.clips += clips
        self.frames += frames
        self.shards += 1


@dataclass
class _Shard:
    """Rows that will be a shard."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0  # bytes of images, depth and masks
    covered: list[str] = field(default_factory=list)  # ids of clips, written or left out
    ended: list[str] = field(default_factory=list)  # sequences
    skipped: list[Skip] = field(default_factory=list)


class ClipWriter:
    """Writes a data set of clips, or goes on writing one.

    Give it the clips in one and the same order at every run: all of a split before the next split's, sequence by
    sequence as in `sequences`; leave out those for which `is_done` says so.

    Args:
        output: the folder. It must be absent, empty, or of an earlier run with the same options.
        options: whatever determines the clips, in JSON's types; a second run must have the same.
        sequences: the sequences of each split (`train`, `validation`), in the order in which they will come.
        seed: of the order of rows.
        max_shard_bytes: a shard is closed when its files are as large.
    """

    def __init__(
        self,
        output: str | Path,
        *,
        options: Mapping[str, Any],
        sequences: Mapping[str, Sequence[str]],
        seed: int,
        max_shard_bytes: int,
    ) -> None:
        unknown = set(sequences) - set(SPLITS)
        if unknown:
            raise ClipError(f"The splits are {' and '.join(SPLITS)}, got {', '.join(sorted(unknown))}.")
        self._schema = clip_features().arrow_schema
        self.output = Path(output)
        self.splits = {split: WrittenSplit() for split in SPLITS if sequences.get(split)}
        self.skipped: list[Skip] = []  # so far; of a run that had ended before, only `num_skipped` is known
        self.num_skipped = 0
        self._seed, self._max_shard_bytes = seed, max_shard_bytes
        self._done: set[str] = set()
        self._ended: set[str] = set()
        self._shard = _Shard()
        self._split = ""
        record = {"schema": SCHEMA_VERSION, "options": dict(options), "sequences": dict(sequences)}
        self._record = json.loads(json.dumps(record))  # a tuple equals the list that it is read back as
        self.complete = self._open()

    @property
    def pending(self) -> int:
        """Number of clips that no shard holds yet."""
        return len(self._shard.rows)

    @property
    def num_clips(self) -> int:
        """Number of clips in all splits, written or not."""
        return sum(counts.clips for counts in self.splits.values()) + self.pending

    def is_done(self, clip_id: str) -> bool:
        """Whether a clip is in a whole shard, or was left out before one was closed."""
        return clip_id in self._done

    def sequence_is_done(self, sequence: str) -> bool:
        """Whether all clips of a sequence are done."""
        return sequence in self._ended

    def take(self, split: str, clips: Iterable[EncodedClip], ended: Iterable[tuple[str, Iterable[Skip]]]) -> None:
        """Take clips, but for those that are done, and then the sequences that end with them; see `end_sequence`."""
        for clip in clips:
            if not self.is_done(clip.clip_id):
                self.add(split, clip)
        for name, skipped in ended:
            self.end_sequence(split, name, skipped)

    def add(self, split: str, clip: EncodedClip) -> None:
        """Take a clip, and write a shard if it is large enough."""
        self._enter(split)
        if clip.clip_id in self._done:
            raise ClipError(f"Two clips are named {clip.clip_id}; their ids must differ.")
        self._done.add(clip.clip_id)
        shard = self._shard
        shard.covered.append(clip.clip_id)
        self._skip(clip.skipped)
        if clip.row is not None:
            shard.rows.append(clip.row)
            shard.size += sum(
                len(file["bytes"])
                for column in ("images", "depth", "motion_mask")
                for file in clip.row[column] or ()
                if file is not None
            )
        if shard.size >= self._max_shard_bytes:
            self._close_shard()

    def end_sequence(self, split: str, sequence: str, skipped: Iterable[Skip] = ()) -> None:
        """Say that all clips of a sequence have come, and what of it could not become a clip."""
        self._enter(split)
        self._shard.ended.append(sequence)
        self._ended.add(sequence)
        self._skip(skipped)

    def finish(self, title: str) -> None:
        """Write what is left, the list of what was left out, and the data card."""
        self._close_shard()
        self._record |= {
            "complete": True,
            "splits": {split: asdict(counts) for split, counts in self.splits.items()},
            "skipped": len(self.skipped),
        }
        self._write_text(SKIPPED, "".join(f"{skip}\n" for skip in self.skipped))
        self._write_text("README.md", data_card(title, self.splits, self._record["options"]))
        self._write_text(RECORD, json.dumps(self._record, indent=2) + "\n")
        self.complete = True

    def close(self) -> None:
        """Let another run write to the folder. What is not in a whole shard is given up."""
        self._held.close()

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------------------------

    def _open(self) -> bool:
        """Make the folder or see what it holds; gives whether all is written."""
        record = self.output / RECORD
        with ExitStack() as held:
            held.enter_context(working_folder(self.output, RECORD))
            if not record.exists():
                self._write_text(RECORD, json.dumps({**self._record, "complete": False}, indent=2) + "\n")
            earlier = self._read_record(record)
            for split in self.splits:
                self._read_shards(split)
            self.num_skipped = len(self.skipped) if earlier.skipped is None else earlier.skipped
            self._held = held.pop_all()
        return earlier.complete

    def _read_record(self, path: Path) -> _Earlier:
        """The record of an earlier run, if it is one of the same options."""
        earlier: _Earlier = read_json(path, _Earlier, error=ClipError, remedy="remove the folder and start again")
        options, sequences, schema = earlier.options, earlier.sequences, earlier.schema_
        advice = f"Pass the same options to go on with {self.output}, or name another output folder."
        if schema != SCHEMA_VERSION:
            raise ClipError(f"{self.output} was begun with the schema {schema}, this is {SCHEMA_VERSION}. {advice}")
        for name in sorted({*options, *self._record["options"]}):
            then, now = options.get(name), self._record["options"].get(name)
            if then != now:
                option = name.replace("_", "-")
                raise ClipError(f"{self.output} was begun with --{option} {_words(then)}, not {_words(now)}. {advice}")
        for split in SPLITS:
            then, now = sequences.get(split, []), self._record["sequences"].get(split, [])
            if then != now:
                changed = sorted(set(then) ^ set(now))
                which = f" (for example {changed[0]})" if changed else ""
                raise ClipError(
                    f"{self.output} was begun with {len(then)} sequences in the split {split}, now there are "
                    f"{len(now)}, not all of them the same{which}. Restore the data set to go on, or name another "
                    "output folder."
                )
        return earlier

    def _read_shards(self, split: str) -> None:
        """Take up what the whole shards of a split say is done."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        remedy = f"remove {self.output} and start again"
        for path in sorted((self.output / "data").glob(f"{split}-*.parquet")):
            expected = self._shard_path(split)
            if path != expected:
                raise ClipError(f"{expected} is missing, and {path.name} is there; {remedy}.")
            try:
                metadata = pq.read_metadata(path)
                text = metadata.metadata[FOOTER]
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
                raise ClipError(f"{path} is broken ({error}); {remedy}.") from error
            footer = parse_json(text, _Footer, f"The footer of {path}", error=ClipError, remedy=remedy)
            self._done.update(footer.covered)
            self._ended.update(footer.ended)
            self.skipped += footer.skipped
            self.splits[split].add_shard(metadata.num_rows, footer.frames)

    def _shard_path(self, split: str) -> Path:
        return self.output / "data" / f"{split}-{self.splits[split].shards:05d}.parquet"

    def _enter(self, split: str) -> None:
        if split != self._split:
            self._close_shard()
            self._split = split

    def _skip(self, skipped: Iterable[Skip]) -> None:
        skips = list(skipped)
        self._shard.skipped += skips
        self.skipped += skips
        self.num_skipped = len(self.skipped)

    def _close_shard(self) -> None:
        """Write the rows that have come. What was left out since the last row is found again by the next run."""
        if not self._shard.rows:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        shard, path = self._shard, self._shard_path(self._split)
        counts = self.splits[self._split]
        frames = sum(row["num_frames"] for row in shard.rows)
        footer = {
            "covered": shard.covered,
            "ended": shard.ended,
            "frames": frames,
            "skipped": [asdict(skip) for skip in shard.skipped],
        }
        schema = self._schema.with_metadata({**self._schema.metadata, FOOTER: json.dumps(footer).encode()})
        # A split's name as a number: the built-in hash differs from run to run.
        generator = np.random.default_rng((self._seed, zlib.crc32(self._split.encode()), counts.shards))
        path.parent.mkdir(exist_ok=True)
        # A row group for each row: it can be read without the others. The files in it are compressed already.
        with (
            self._whole(path) as partial,
            pq.ParquetWriter(partial, schema, use_dictionary=False, write_statistics=False) as writer,
        ):
            for i in generator.permutation(len(shard.rows)):
                writer.write_table(pa.Table.from_pylist([shard.rows[i]], schema=schema))
        counts.add_shard(len(shard.rows), frames)
        self._shard = _Shard()
        # Kept up to date for whoever looks; what a next run goes by is in the shards.
        self._write_text(SKIPPED, "".join(f"{skip}\n" for skip in self.skipped))

    def _write_text(self, name: str, text: str) -> None:
        """Write a small file in whole."""
        with self._whole(self.output / name) as partial:
            partial.write_text(text, encoding="utf-8")

    @contextmanager
    def _whole(self, path: Path) -> Iterator[Path]:
        """Write a file in whole, such that it outlasts a power cut."""
        try:
            with whole_file(path, overwrite=True) as partial:
                yield partial
                make_durable(partial)
            make_durable(path.parent)
        except (OSError, Page4DError) as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError | Page4DError) -> ClipError:
        shards = sum(counts.shards for counts in self.splits.values())
        cause = error if isinstance(error, OSError) else error.__cause__
        full = cause if isinstance(cause, OSError) and cause.errno in FULL else None
        return ClipError(
            f"Cannot write {self.output} ({full.strerror if full else cause or error}): its {shards} whole shards are "
            f"kept. {'Make room and run' if full else 'Run'} the command again to go on."
        )


def data_card(title: str, splits: Mapping[str, WrittenSplit], options: Mapping[str, Any]) -> str:
    """The README.md of a data set of clips: where the splits lie, for `datasets` and the Hub, and what is in them."""
    written = {split: counts for split, counts in splits.items() if counts.shards}
    lines = [
        "---",
        f"pretty_name: {json.dumps(title)}",
        "task_categories:",
        "- depth-estimation",
        "tags:",
        "- page4d",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for split in written:
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    lines += [
        "---",
        f"# {title}",
        "",
        "Clips of moving scenes, with cameras, depth and motion masks where there are any, for training PAGE-4D. The",
        "licence is that of the data that it was made from.",
        "",
        "| split | clips | frames |",
        "| --- | --- | --- |",
        *(f"| {split} | {counts.clips:,} | {counts.frames:,} |" for split, counts in written.items()),
        "",
        "```python",
        "from page4d_hf.clips import decode_frames, load_clips",
        "",
        'clips = load_clips("path/or/hub-id", split="train")',
        "frames = decode_frames(clips[0], range(8))  # images, depth, cameras as arrays",
        "```",
        "",
        "| column | type | |",
        "| --- | --- | --- |",
        *(
            f"| `{name}` | {kind}{' or null' if name in NULLABLE else ''} | {meaning} |"
            for name, (kind, meaning) in COLUMNS.items()
        ),
        "",
        "Made with these options:",
        "",
        "```json",
        json.dumps({name: value for name, value in options.items() if name != "root"}, indent=2),  # no local path
        "```",
        "",
    ]
    return "\n".join(lines)


def _words(value: Any) -> str:
    return "unset" if value is None else json.dumps(value)
