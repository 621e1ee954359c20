"""A worker at the tables of its region."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from array import array
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from gaia import _gaia
from gaia.errors import Error, RowError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Held", "Job", "Table", "connect"]


class Held(NamedTuple):
    """Why servers have held a read."""

    why: str
    """`stale` (workers of this region are behind), `barrier` or `mirror_clock` (another region), `fetching`."""
    region: str | None
    """The region that was waited for, where it was another."""
    seconds: float
    """For how long."""


def connect(
    config: str | os.PathLike[str] | None = None,
    worker: int | None = None,
    *,
    set: Mapping[str, object] | None = None,  # noqa: A002
    log: bool = True,
) -> Job:
    """Connects as a worker of a region, and waits until its servers are there.

    `config` is the region's file and `worker` its index among the region's workers; by default they are
    what `gaia worker --config FILE --index N -- PROGRAM` says in GAIA_CONFIG and GAIA_WORKER. `set` has
    settings over those of the file, such as `{"job.clocks": 50}`. With `log`, the connection logs to
    standard error as `gaia worker` does.

    Under that command, SIGTERM raises SystemExit in the main thread, unless the program handles it, so
    that a `with` block leaves the servers in order.

    Raises ConfigError if settings, certificates or ports cannot be used, ServiceError if the servers
    refuse this worker, and KeyboardInterrupt.
    """
    settings = [(key, _text(value)) for key, value in (set or {}).items()]
    if "GAIA_WORKER" in os.environ:
        _stop_in_order()
    return Job(_gaia.Job(config, worker, settings, log))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stop_in_order() -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


class Job:
    """A worker's connection to the servers of its region, made by `connect`.

    As a context manager it leaves them at the end of the block: what was added since the last clock is
    given up then, and nobody waits for this worker any more. Methods may be called from any thread, one
    at a time: a call waits until the one before has ended.
    """

    def __init__(self, inner: _gaia.Job) -> None:
        self._inner = inner
        self._tables = {
            name: Table(self, index, name, rows, width, takes_changes)
            for index, (name, rows, width, takes_changes) in enumerate(inner.tables)
        }

    @property
    def name(self) -> str:
        """The job's name."""
        return self._inner.name

    @property
    def region(self) -> str:
        """The region of this worker."""
        return self._inner.region

    @property
    def regions(self) -> list[str]:
        """All regions, in the order of the job's file."""
        return self._inner.regions

    @property
    def worker(self) -> int:
        """The index among the workers of the region."""
        return self._inner.worker

    @property
    def rank(self) -> int:
        """The index among the workers of all regions."""
        return self._inner.rank

    @property
    def world_size(self) -> int:
        """How many workers all regions have together."""
        return self._inner.world_size

    @property
    def clocks(self) -> int:
        """How many clocks the job has (job.clocks)."""
        return self._inner.clocks

    @property
    def seed(self) -> int:
        """The seed of every random choice."""
        return self._inner.seed

    @property
    def clock_number(self) -> int:
        """How many clocks this worker has completed. A worker that was cut off for long goes on where the
        others are."""
        return self._inner.clock_number()

    @property
    def done(self) -> bool:
        """Whether all clocks are completed."""
        return self.clock_number >= self.clocks

    @property
    def held(self) -> list[Held]:
        """Why the last read that was held was held, the longest reason first; empty if none was."""
        return [Held(*held) for held in self._inner.held_by()]

    @property
    def tables(self) -> dict[str, Table]:
        """The tables of the model, by name."""
        return dict(self._tables)

    def table(self, name: str) -> Table:
        """The table of that name. Raises RowError if there is none."""
        try:
            return self._tables[name]
        except KeyError:
            known = ", ".join(self._tables)
            raise RowError(f"there is no table {name!r}; allowed: {known}") from None

    def fetch(self, wanted: Mapping[str, Iterable[int] | None]) -> None:
        """Makes rows of several tables fresh enough, in one round trip; None stands for all rows. `read`
        then finds them there."""
        self._inner.fetch([(self.table(name)._index, _rows(rows)) for name, rows in wanted.items()])

    def clock(self) -> int:
        """Ends the clock: what was added goes to the servers. Gives the number of completed clocks.

        Raises DivergedError if what was added is NaN or infinite and the job refuses that (then nothing is
        sent), ClockError after the last clock, EndedError, ServiceError.
        """
        return self._inner.clock()

    def discard(self) -> None:
        """Takes back what was added since the last clock."""
        self._inner.discard()

    def finish(self) -> str | None:
        """After the last clock, waits until the job is done everywhere: what is read then is the result.
        Gives what it lacks, in words, if it lacks something: a region that has left."""
        return self._inner.finish()

    def leave(self) -> None:
        """Leaves the servers, once they have all that was said. Leaving twice does no harm."""
        self._inner.leave(False)

    async def afetch(self, wanted: Mapping[str, Iterable[int] | None]) -> None:
        """`fetch`, to be awaited."""
        await asyncio.to_thread(self.fetch, wanted)

    async def aclock(self) -> int:
        """`clock`, to be awaited."""
        return await asyncio.to_thread(self.clock)

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._inner.leave(False)
            return
        try:
            # A read that an interrupt has left behind may wait for ever.
            self._inner.leave(True)
        except Error as other:
            error.add_note(f"nor could the worker leave its servers in order: {other}")

    def __repr__(self) -> str:
        return f"<gaia.Job {self.name}: rank {self.rank} of {self.world_size}, in {self.region}>"


class Table:
    """A table of f32 values: `rows` rows of `width` columns."""

    def __init__(self, job: Job, index: int, name: str, rows: int, width: int, takes_changes: bool) -> None:
        self._job = job
        self._index = index
        self.name = name
        self.shape = (rows, width)
        self.takes_changes = takes_changes
        """Whether what is added are changes; else they are gradients, of which servers make changes by the
        table's rule, to be seen when the rows are read again."""

    @property
    def dtype(self) -> str:
        """What the values are: `float32`."""
        return "float32"

    def read(self, rows: Iterable[int] | None = None, out: Buffer | None = None) -> Any:
        """Reads rows, all by default: an array `[len(rows), width]` of float32, in the order of `rows`, with
        what this worker has added.

        Waits until the rows are as fresh as the job's staleness asks for; the GIL is free meanwhile, and a
        signal's handler may end the wait. The result is a NumPy array where NumPy is installed, else a
        memory view; with `out`, a writable buffer for as many float32 in C order, it is that.

        Raises RowError if a row does not exist, EndedError, ServiceError.
        """
        wanted = _rows(rows)
        self._job._inner.fetch([(self._index, wanted)])
        if out is None:
            out = _empty(self.shape[0] if wanted is None else len(wanted), self.shape[1])
        self._job._inner.values_into(self._index, wanted, out)
        return out

    async def aread(self, rows: Iterable[int] | None = None, out: Buffer | None = None) -> Any:
        """`read`, to be awaited."""
        return await asyncio.to_thread(self.read, rows, out)

    def add(self, rows: Iterable[int] | None, delta: Buffer) -> None:
        """Adds `delta`, `[len(rows), width]` of float32 in C order, to rows, to all of them if `rows` is
        None: seen here at once, by others after `Job.clock`.

        Raises RowError if a row does not exist, and ShapeError; then nothing is added.
        """
        self._job._inner.add(self._index, _rows(rows), delta)

    def __repr__(self) -> str:
        return f"<gaia.Table {self.name}: {self.shape[0]} x {self.shape[1]} {self.dtype}>"


def _rows(rows: Iterable[int] | None) -> Any:
    """Row numbers as a buffer of unsigned 32-bit numbers."""
    if rows is None:
        return None
    if isinstance(rows, array) and rows.typecode == "I":
        return rows
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(rows, numpy.ndarray):
        if rows.dtype.kind not in "iu" or rows.ndim != 1:
            raise RowError(f"rows have type {rows.dtype} and {rows.ndim} dimensions; allowed: whole numbers in one")
        if rows.size and (rows.min() < 0 or rows.max() > 0xFFFF_FFFF):
            raise RowError(f"there are rows from {rows.min()} to {rows.max()}; allowed: from 0")
        return numpy.ascontiguousarray(rows, dtype=numpy.uint32)
    try:
        return array("I", rows if isinstance(rows, Sequence) else list(rows))
    except (OverflowError, TypeError) as error:
        raise RowError(f"rows: {error}; allowed: whole numbers from 0") from None


def _empty(rows: int, width: int) -> Any:
    """Room for so many values."""
    try:
        import numpy
    except ImportError:
        room = memoryview(bytearray(4 * rows * width)).cast("B")
        return room.cast("f", [rows, width]) if rows else room.cast("f")
    return numpy.empty((rows, width), dtype=numpy.float32)
