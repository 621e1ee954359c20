"""The digits, for the examples: pictures of 8 x 8 as `[count, 64]` from 0 to 1, and classes from 0 to 9."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "data"


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Part `train` or `test`."""
    with gzip.open(DATA / f"digits-{part}.csv.gz", "rt") as file:
        values = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return values[:, :-1] / 16, values[:, -1].astype(np.int64)


def job(model: str, clocks: int) -> str:
    """A job of the regions of `gaia demo` for a `[model]` part."""
    regions = "".join(f'[[regions]]\nname = "{name}"\nworkers = 3\n\n' for name in ("virginia", "ireland", "singapore"))
    return f'name = "digits-python"\nseed = 1\nclocks = {clocks}\nshards = 4\n\n{regions}[data]\nformat = "own"\n\n{model}'
