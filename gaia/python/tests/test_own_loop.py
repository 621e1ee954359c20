"""A loop of one's own around a job's tables."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path

import numpy as np
import pytest

import gaia

with_workers = lambda **settings: pytest.mark.parametrize("region", [settings], indirect=True)  # noqa: E731


def test_what_is_added_is_read(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job:
        assert (job.region, job.rank, job.world_size, job.clocks, job.regions) == ("here", 0, 1, 1000, ["here"])
        items = job.table("items")
        assert (items.shape, items.dtype, items.takes_changes) == ((1000, 32), "float32", True)
        rows = [999, 0, 7]
        values = items.read(rows)
        assert values.shape == (3, 32) and values.dtype == np.float32 and (values == 1).all()
        delta = np.arange(96, dtype=np.float32).reshape(3, 32)
        items.add(rows, delta)
        assert (items.read(rows) == 1 + delta).all(), "seen here at once"
        assert job.clock() == 1 and job.clock_number == 1
        assert (items.read(rows) == 1 + delta).all(), "and so the server has it"
        assert (items.read(np.array(rows)) == 1 + delta).all()
        assert (items.read()[[1, 998]] == 1).all()
        # A row that is named twice gets both.
        job.table("small").add([2, 2], np.ones((2, 2), np.float32))
        job.clock()
        assert job.table("small").read().tolist() == [[0, 0], [0, 0], [2, 2]]


def test_no_numpy_is_needed(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job:
        small = job.table("small")
        small.add([1], memoryview(array("f", [2.5, -1.0])))
        out = array("f", [0.0] * 2)
        assert small.read([1], out=out) is out and list(out) == [2.5, -1.0]


def test_what_makes_no_sense_is_said(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job:
        small = job.table("small")
        for call, kind, text in [
            (lambda: job.table("smal"), gaia.RowError, "there is no table 'smal'; allowed: items, small"),
            (lambda: small.read([3]), gaia.RowError, "table `small` has no row 3; allowed: 0 to 2"),
            (lambda: small.read([-1]), gaia.RowError, "allowed: whole numbers from 0"),
            (lambda: small.read(np.array([-1])), gaia.RowError, "allowed: from 0"),
            (lambda: small.add([0, 3], np.ones((2, 2), np.float32)), gaia.RowError, "no row 3"),
            (lambda: small.add([0], np.ones((2, 2), np.float32)), gaia.ShapeError, "found 4 values; allowed: 1 rows of 2"),
            (lambda: small.add([0, 1], np.ones((2, 2), np.float32).T[::-1]), gaia.ShapeError, "C order"),
            (lambda: small.add([0], np.ones((1, 2))), BufferError, ""),
            (lambda: small.read([0], out=bytes(8)), (gaia.ShapeError, BufferError), ""),
            (job.finish, gaia.ClockError, "0 of the job's 1000 clocks"),
        ]:
            with pytest.raises(kind) as raised:
                call()
            assert text in str(raised.value), raised.value
        assert (small.read() == 0).all(), "nothing of that was added"
    assert issubclass(gaia.RowError, gaia.Error) and issubclass(gaia.RowError, IndexError)
    with pytest.raises(gaia.EndedError):
        small.read()
    job.leave()


def test_a_model_that_diverges_is_refused_and_can_go_on(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job:
        small = job.table("small")
        small.add([1], np.array([[np.nan, 0]], np.float32))
        with pytest.raises(gaia.DivergedError, match="table `small` row 1: the delta is NaN"):
            job.clock()
        job.discard()
        small.add([1], np.array([[1, 0]], np.float32))
        assert job.clock() == 1
        assert small.read([1]).tolist() == [[1, 0]]


def test_settings_that_are_wrong_are_said(region, monkeypatch) -> None:
    with pytest.raises(gaia.ConfigError, match="there is no worker 5 in here"):
        gaia.connect(region.config, 5, log=False)
    with pytest.raises(gaia.ConfigError, match="job.clocks: found"):
        gaia.connect(region.config, 0, set={"job.clocks": 0}, log=False)
    monkeypatch.delenv("GAIA_CONFIG", raising=False)
    with pytest.raises(gaia.ConfigError, match="GAIA_CONFIG is not set"):
        gaia.connect(log=False)


@with_workers(workers=2, clocks=20)
def test_sums_are_exact_over_workers_and_the_result_is_written(region, tmp_path: Path) -> None:
    def train(worker: int) -> None:
        with gaia.connect(region.config, worker, log=False) as job:
            items = job.table("items")
            for clock in range(20):
                before = items.read([3])
                # Both have completed every clock that this one has, as the job's staleness is 0; the other may
                # be one further.
                assert before[0, 0] in (1 + 3 * clock, 1 + 3 * clock + 1, 1 + 3 * clock + 2)
                items.add([3], np.full((1, 32), worker + 1, np.float32))
                assert job.clock() == clock + 1
            with pytest.raises(gaia.ClockError):
                job.clock()
            assert job.finish() is None
            assert (items.read([3]) == 61).all()

    failures: list[BaseException] = []

    def noting(worker: int) -> None:
        try:
            train(worker)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=noting, args=(worker,)) for worker in range(2)]
    [thread.start() for thread in threads]
    [thread.join(120) for thread in threads]
    assert not failures, failures
    assert region.server.wait(60) == 0, region.log.read_text()
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    shards = [gaia.load(file) for file in files]
    assert sum(shard["items"].shape[0] for shard in shards) == 1000
    exported = tmp_path / "model.safetensors"
    region.run("export", str(tmp_path / "out"), "--region", "here", "--out", str(exported))
    model = gaia.load(exported)
    assert model["items"].shape == (1000, 32) and (model["items"][3] == 61).all() and (model["items"][4] == 1).all()


@with_workers(workers=2)
def test_an_interrupt_ends_a_wait_and_loses_nothing(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job, gaia.connect(region.config, 1, log=False) as other:
        small = job.table("small")
        small.add([0], np.ones((1, 2), np.float32))
        job.clock()
        threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            small.read([0])
        assert 0.3 < time.monotonic() - started < 5, "the other worker is waited for"
        small_there = other.table("small")
        small_there.add([0], np.ones((1, 2), np.float32))
        other.clock()
        assert small.read([0]).tolist() == [[2, 2]]
        assert job.held and job.held[0].why == "stale" and job.held[0].seconds > 0.3


@with_workers(workers=2)
def test_a_block_that_fails_in_a_wait_leaves(region) -> None:
    with gaia.connect(region.config, 1, log=False) as other:
        with pytest.raises(KeyboardInterrupt), gaia.connect(region.config, 0, log=False) as job:
            job.clock()
            threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
            job.table("small").read([0])
        # Nobody waits for who has left.
        other.clock()
        other.clock()
        assert (other.table("small").read() == 0).all()


def test_a_server_that_starts_again_is_a_read_that_takes_longer(region) -> None:
    with gaia.connect(region.config, 0, log=False) as job:
        small = job.table("small")
        ended: list[int] = []

        def start_again() -> None:
            ended.append(region.stop())
            region.start()

        again = threading.Thread(target=start_again)
        again.start()
        added = 0
        # Until well after the server has come back: it waits for the clock that goes on, and this worker for it.
        while added < 20 or again.is_alive():
            small.read([0])
            small.add([1], np.ones((1, 2), np.float32))
            added += 1
            job.clock()
            time.sleep(0.02)
        assert ended == [0], region.log.read_text()
        assert small.read([1]).tolist() == [[added, added]], "nothing is lost, nothing counted twice"


def test_waits_can_be_awaited(region) -> None:
    async def both() -> None:
        with gaia.connect(region.config, 0, log=False) as job:
            values = await job.table("items").aread([5])
            assert (values == 1).all()
            assert await job.aclock() == 1

    asyncio.run(both())


TRAIN = """
import os, sys, time, gaia, numpy as np
with gaia.connect() as job:
    assert (job.rank, job.world_size) == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    small = job.table("small")
    print("connected", flush=True)
    {rest}
"""


def test_the_launcher_tells_who_it_is_and_the_exit_code(region) -> None:
    worker = region.worker(0, "-c", TRAIN.format(rest="small.add([0], np.ones((1, 2), np.float32)); job.clock(); sys.exit(7)"))
    out, said = worker.communicate(timeout=60)
    assert worker.returncode == 7 and out == "connected\n", said
    with gaia.connect(region.config, 0, log=False) as job:
        assert job.table("small").read([0]).tolist() == [[1, 1]], "a block that ends delivers what was said"


def test_an_exception_ends_the_worker_as_one(region) -> None:
    worker = region.worker(0, "-c", TRAIN.format(rest="raise RuntimeError('of my own')"))
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1 and "of my own" in said


def test_a_signal_leaves_in_order(region) -> None:
    worker = region.worker(0, "-c", TRAIN.format(rest="time.sleep(60)"))
    assert worker.stdout is not None and worker.stdout.readline() == "connected\n"
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 143, said


@with_workers(workers=2)
def test_a_worker_that_is_killed_is_replaced(region) -> None:
    code = "import sys, gaia\njob = gaia.connect(sys.argv[1], 0, log=False)\njob.clock()\nprint('up', flush=True)\nsys.stdin.read()"
    killed = subprocess.Popen([sys.executable, "-c", code, str(region.config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with gaia.connect(region.config, 1, log=False) as other:
        assert killed.stdout is not None and killed.stdout.readline() == b"up\n"
        other.clock()
        killed.kill()
        killed.wait()
        with gaia.connect(region.config, 0, log=False) as again:
            assert again.clock_number >= 1
            again.clock()
            other.clock()
            assert (other.table("small").read() == 0).all()
