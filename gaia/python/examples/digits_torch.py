"""A small convolutional network on the digits in PyTorch, replicated over regions.

`gaia worker ... -- python digits_torch.py` trains; `three_regions.py digits_torch.py` does it all."""

from __future__ import annotations

import sys

import digits
import gaia
import gaia.torch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLOCKS, EVERY = 60, 4


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def data(part: str) -> TensorDataset:
    return TensorDataset(*map(torch.from_numpy, digits.load(part)))


def accuracy(model: nn.Module) -> float:
    x, y = data("test").tensors
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def train() -> None:
    torch.set_num_threads(1)
    model = network()
    with gaia.connect() as job:
        torch.manual_seed(job.rank)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        replica = gaia.torch.Replica(job, model, every=EVERY).attach(optimizer)
        batches = DataLoader(gaia.torch.shard(data("train"), job), batch_size=32, shuffle=True)
        while not job.done:
            for x, y in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                if job.done:
                    break
        replica.finish()
        print(f"rank {job.rank} of {job.world_size}: accuracy {accuracy(model):.4f}", flush=True)


def alone(workers: int) -> float:
    """One process that does as many steps on batches as large as those of all workers together."""
    torch.manual_seed(1)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    left = CLOCKS * EVERY
    while left:
        for x, y in DataLoader(data("train"), batch_size=32 * workers, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            left -= 1
            if not left:
                break
    return accuracy(model)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            train()
        case ["--job"]:
            torch.manual_seed(1)
            print(digits.job(gaia.torch.declare(network()), CLOCKS), end="")
        case ["--alone"]:
            print(f"{alone(9):.4f}")
        case ["--evaluate", path]:
            model = network()
            model.load_state_dict(gaia.torch.state_dict(path, model))
            print(f"{accuracy(model):.4f}")
        case other:
            sys.exit(f"found {other}; allowed: nothing, --job, --alone, --evaluate FILE")
