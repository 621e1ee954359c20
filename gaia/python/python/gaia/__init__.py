"""Train one model over many datacenters as if they were one LAN.

A training loop of one's own around the tables of a job:

    import gaia

    with gaia.connect() as job:
        items = job.table("items")
        while not job.done:
            w = items.read(rows)        # waits as the job's staleness has it
            items.add(rows, delta)      # seen here at once, by others after the clock
            job.clock()

`gaia.torch` has a replica of a PyTorch module, `gaia.load` reads a trained model.
"""

from gaia._files import load
from gaia._job import Held, Job, Table, connect
from gaia.errors import (
    ClockError,
    ConfigError,
    DivergedError,
    EndedError,
    Error,
    RowError,
    ServiceError,
    ShapeError,
)

__all__ = [
    "ClockError",
    "ConfigError",
    "DivergedError",
    "EndedError",
    "Error",
    "Held",
    "Job",
    "RowError",
    "ServiceError",
    "ShapeError",
    "Table",
    "connect",
    "load",
]
