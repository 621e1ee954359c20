"""A perceptron on the digits in NumPy, with a loop of its own around the tables.

`gaia worker ... -- python digits_numpy.py` trains; `three_regions.py` does it all."""

from __future__ import annotations

import sys

import digits
import gaia
import numpy as np

CLOCKS = 60
SHAPES = {"hidden": (64, 64), "hidden.bias": (1, 64), "classes": (64, 10), "classes.bias": (1, 10)}
BATCH, STEPS, RATE = 32, 4, 0.2

MODEL = '[model]\nkind = "external"\n' + "".join(
    f'\n[[model.tables]]\nname = "{name}"\nrows = {rows}\nwidth = {width}\n'
    + ("" if name.endswith(".bias") else f'initial = "normal"\nscale = {(2 / rows) ** 0.5:.6f}\n')
    for name, (rows, width) in SHAPES.items()
)


def forward(model: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer, `[batch, 64]`, and the probabilities of classes, `[batch, 10]`."""
    hidden = np.maximum(x @ model["hidden"] + model["hidden.bias"], 0)
    scores = hidden @ model["classes"] + model["classes.bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def step(model: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> None:
    """A step of SGD on the mean negative log likelihood."""
    hidden, chances = forward(model, x)
    chances[np.arange(len(y)), y] -= 1
    chances /= len(y)
    back = (chances @ model["classes"].T) * (hidden > 0)
    model["classes"] -= RATE * hidden.T @ chances
    model["classes.bias"] -= RATE * chances.sum(axis=0, keepdims=True)
    model["hidden"] -= RATE * x.T @ back
    model["hidden.bias"] -= RATE * back.sum(axis=0, keepdims=True)


def accuracy(model: dict[str, np.ndarray]) -> float:
    x, y = digits.load("test")
    return float((forward(model, x)[1].argmax(axis=1) == y).mean())


def train() -> None:
    x, y = digits.load("train")
    with gaia.connect() as job:
        random = np.random.default_rng(job.rank)
        mine = np.arange(job.rank, len(y), job.world_size)
        while not job.done:
            job.fetch(dict.fromkeys(SHAPES))
            before = {name: job.table(name).read() for name in SHAPES}
            model = {name: values.copy() for name, values in before.items()}
            for _ in range(STEPS):
                batch = random.choice(mine, BATCH)
                step(model, x[batch], y[batch])
            for name, values in model.items():
                job.table(name).add(None, (values - before[name]) / job.world_size)
            job.clock()
        job.finish()
        model = {name: job.table(name).read() for name in SHAPES}
        print(f"rank {job.rank} of {job.world_size}: accuracy {accuracy(model):.4f}", flush=True)


def alone(workers: int) -> float:
    """The same work in one process: what each of so many workers does in a clock, averaged."""
    x, y = digits.load("train")
    randoms = [np.random.default_rng(rank) for rank in range(workers)]
    start = np.random.default_rng(1)
    model = {
        name: np.zeros(shape, np.float32)
        if name.endswith(".bias")
        else start.normal(0, (2 / shape[0]) ** 0.5, shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    for _ in range(CLOCKS):
        found = []
        for rank, random in enumerate(randoms):
            own = {name: values.copy() for name, values in model.items()}
            for _ in range(STEPS):
                batch = random.choice(np.arange(rank, len(y), workers), BATCH)
                step(own, x[batch], y[batch])
            found.append(own)
        model = {name: sum(own[name] for own in found) / workers for name in SHAPES}
    return accuracy(model)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            train()
        case ["--job"]:
            print(digits.job(MODEL, CLOCKS), end="")
        case ["--alone"]:
            print(f"{alone(9):.4f}")
        case ["--evaluate", path]:
            print(f"{accuracy(gaia.load(path)):.4f}")
        case other:
            sys.exit(f"found {other}; allowed: nothing, --job, --alone, --evaluate FILE")
