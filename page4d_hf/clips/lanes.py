"""Streamed clips in an order that does not depend on who reads them.

A streamed data set can only be read front to back. Its shards are dealt out to a fixed number of lanes, and every
micro-batch takes the next rows of one lane; where they lie follows from the plans of the micro-batches before it, so
any worker of any process can take up any micro-batch. What that costs:

- A worker that takes over a lane reads over the rows that others used. Nothing is read twice where the number of lanes
  is a multiple of processes * workers, since then each lane has one reader.
- A run that goes on at a later micro-batch reads over all rows of its lanes up to there, of the current pass over the
  data alone, but for the ids of one whole lane to find out how long a pass is.
- Rows come in the order in which they were written, in every pass: what is not mixed in the shards is mixed only by
  taking from several lanes in turn, and from several sources.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ClipError
from ..utils.programs import one_line

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


class Lanes:
    """The rows of a streamed data set, in lanes: lane l of L holds the shards l, l + L, ..., over and over.

    L is `count`, or the number of shards if there are fewer; `title` is what messages call the data set.
    """

    def __init__(self, clips: datasets.IterableDataset, count: int, title: str) -> None:
        self._count: int = min(count, clips.num_shards)
        self._clips, self._title = clips, title
        self._readers: dict[int, _LaneReader] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return self._count

    def row(self, lane: int, position: int, keep_from: int) -> pa.Table:
        """A row of a lane, by its position over all passes, as an Arrow table of one row.

        Rows from `keep_from` on will be asked for again, those before it will not.
        """
        if self._process != os.getpid():
            # A forked worker must not read on in the files of the process that it came from.
            self._readers, self._process = {}, os.getpid()
        if lane not in self._readers:
            shards = self._clips.shard(self._count, lane, contiguous=False)
            self._readers[lane] = _LaneReader(shards, f"Lane {lane} of {self._count} of {self._title}")
        try:
            return self._readers[lane].row(position, keep_from)
        except ClipError:
            raise
        except Exception as error:  # of Arrow, of the file system, of the Hub
            del self._readers[lane]
            raise ClipError(f"{self._title} cannot be read on: {one_line(error)}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": {}}  # open files stay in the process that opened them


class _LaneReader:
    """One lane, and the few of its rows that are in memory."""

    def __init__(self, shards: datasets.IterableDataset, title: str) -> None:
        self._shards, self._title = shards, title
        self._length: int | None = None  # rows of a pass, once that is known
        self._rows: Iterator[pa.Table] | None = None
        self._read = 0  # position of the row that comes next from `_rows`
        self._kept: deque[tuple[int, pa.Table]] = deque()

    def row(self, position: int, keep_from: int) -> pa.Table:
        while self._kept and self._kept[0][0] < keep_from:
            self._kept.popleft()
        for kept, row in self._kept:
            if kept == position:
                return row
        if self._rows is None or position < self._read:
            self._open(min(position, keep_from))
        while True:
            row = self._next()
            if self._read > keep_from:
                self._kept.append((self._read - 1, row))
            if self._read == position + 1:
                return row

    def _open(self, position: int) -> None:
        self._kept.clear()
        self._rows = self._rows_from(position if self._length is None else position % self._length)
        self._read = position
        if self._length is None and position > 0:
            # Where the pass ends before the position, its length is needed to know where the position lies.
            first = next(self._rows, None)
            if first is None:
                self._length = sum(1 for _ in self._shards.select_columns(["clip_id"]).iter(batch_size=1))
                self._check_length()
                self._rows = self._rows_from(position % self._length)
            else:
                self._rows = itertools.chain([first], self._rows)

    def _next(self) -> pa.Table:
        assert self._rows is not None
        row = next(self._rows, None)
        if row is None:
            # A pass ended. If the one before it was whole, its length is what was read.
            if self._length is None:
                self._length = self._read
                self._check_length()
            self._rows = self._rows_from(0)
            row = next(self._rows)
        self._read += 1
        return row

    def _rows_from(self, number: int) -> Iterator[pa.Table]:
        # `iter` and not `__iter__`, which would deal the shards out to the workers of a DataLoader a second time.
        rows: Iterator[pa.Table] = self._shards.skip(number).with_format("arrow").iter(batch_size=1)
        return rows

    def _check_length(self) -> None:
        if self._length == 0:
            raise ClipError(f"{self._title} holds no clip; lower lanes, or write shards of about equal size.")
