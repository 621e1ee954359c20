"""PyTorch modules as replicas of one model.

    import gaia, gaia.torch

    with gaia.connect() as job:
        torch.manual_seed(job.rank)
        replica = gaia.torch.Replica(job, model, every=8)
        replica.attach(optimizer)
        loader = DataLoader(gaia.torch.shard(dataset, job), batch_size=32, shuffle=True)
        while not job.done:
            for x, y in loader:
                optimizer.zero_grad(); loss(model(x), y).backward(); optimizer.step()
                if job.done:
                    break
        replica.finish()

The job's file has `model.kind = "external"` with a table for each parameter, which `declare` writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from gaia._files import load
from gaia.errors import ConfigError

if TYPE_CHECKING:
    from gaia._job import Job

__all__ = ["Replica", "declare", "shape_of", "shard", "state_dict"]


def shape_of(values: torch.Tensor) -> tuple[int, int]:
    """The rows and the width of the table of a parameter: its first dimension by all others."""
    rows = values.shape[0] if values.dim() else 1
    return rows, max(values.numel() // max(rows, 1), 1)


def _replicated(module: nn.Module, buffers: bool) -> Iterator[tuple[str, torch.Tensor]]:
    """What regions have in common, by the names of `state_dict`: parameters that are trained, and with
    `buffers` those of floating point, such as the running statistics of a batch norm. Parameters that are
    shared between layers come once."""
    seen: set[int] = set()
    # What torch.compile and DistributedDataParallel put around a module is not a part of its names.
    module = getattr(module, "_orig_mod", module)
    module = module.module if isinstance(module, nn.parallel.DistributedDataParallel) else module
    named: list[tuple[str, torch.Tensor]] = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    if buffers:
        named += [(name, value) for name, value in module.named_buffers() if value.is_floating_point()]
    for name, value in named:
        if value.data_ptr() not in seen or value.numel() == 0:
            seen.add(value.data_ptr())
            yield name, value


def declare(module: nn.Module, *, buffers: bool = True) -> str:
    """The `[model]` part of a job's file for `module`: a table for each parameter, and with `buffers` for
    each floating-point buffer, by the names of `state_dict`.

    First values are drawn by the regions, so that all begin with the same: what is all the same number in
    `module` begins with that number, and everything else with a normal distribution of its standard
    deviation.
    """
    lines = ["[model]", 'kind = "external"']
    for name, value in _replicated(module, buffers):
        rows, width = shape_of(value)
        lines += ["", "[[model.tables]]", f'name = "{name}"', f"rows = {rows}", f"width = {width}"]
        values = value.detach().float()
        least, most = float(values.min()), float(values.max())
        if least != most:
            lines += ['initial = "normal"', f"scale = {float(values.std(correction=0)):.9g}"]
        elif least != 0.0:
            lines += ['initial = "constant"', f"value = {least:.9g}"]
    return "\n".join(lines) + "\n"


class Replica:
    """A module whose parameters are the tables of a job.

    At the start it takes the region's values. Every `every`-th step of the optimizer that it is attached
    to, it adds by how much the parameters have changed, times `scale`, ends the clock, and takes the
    region's values again: what the other workers have done meanwhile, those of other regions as the job's
    strategy lets it pass.

    `scale` is 1 / `job.world_size` by default: a clock moves the model by the mean of what its workers would
    do. With `buffers`, floating-point buffers such as running statistics are averaged in the same way; else
    they stay the replica's own. Parameters of other types than float32 (bfloat16, float16) are added to in
    float32, so that small changes are not lost between clocks.
    """

    def __init__(
        self, job: Job, module: nn.Module, *, every: int = 1, scale: float | None = None, buffers: bool = True
    ) -> None:
        if every < 1:
            raise ConfigError(f"every: found {every}; allowed: a whole number, at least 1")
        self.job = job
        self.module = module
        self.every = every
        self.scale = 1.0 / job.world_size if scale is None else scale
        self._steps = 0
        self._values = dict(_replicated(module, buffers))
        self._check(job)
        # What was read last, and room for what is added, both as tables have it.
        self._base = {name: torch.empty(shape_of(value)) for name, value in self._values.items()}
        self._room = {name: torch.empty(shape_of(value)) for name, value in self._values.items()}
        self.pull()

    def _check(self, job: Job) -> None:
        tables = job.tables
        problems = [
            f"{name}: found {tables[name].shape if name in tables else 'no table'}; allowed: {shape_of(value)}"
            for name, value in self._values.items()
            if name not in tables or tables[name].shape != shape_of(value)
        ]
        problems += [f"{name}: no parameter has this table" for name in tables if name not in self._values]
        if problems:
            raise ConfigError(
                "the tables of the job are not those of the module (gaia.torch.declare writes them): " + "; ".join(problems)
            )

    def attach(self, optimizer: torch.optim.Optimizer) -> Replica:
        """Ends a clock after every `every`-th step of `optimizer`; after the job's last clock, steps are the
        module's own."""
        optimizer.register_step_post_hook(lambda *_: self.step())
        return self

    def step(self) -> None:
        """Counts a step that was made by whatever means, and ends the clock where it is due."""
        if self.job.done:
            return
        self._steps += 1
        if self._steps % self.every == 0:
            self.push()
            self.job.clock()
            self.pull()

    @torch.no_grad()
    def push(self) -> None:
        """Adds by how much the module has changed since it was read."""
        for name, value in self._values.items():
            delta = self._room[name]
            delta.copy_(value.detach().reshape(delta.shape)).sub_(self._base[name]).mul_(self.scale)
            self.job.table(name).add(None, delta.numpy())

    @torch.no_grad()
    def pull(self) -> None:
        """Takes the values that the region has."""
        self.job.fetch(dict.fromkeys(self._values))
        for name, value in self._values.items():
            base = self._base[name]
            self.job.table(name).read(None, out=base.numpy())
            value.copy_(base.reshape(value.shape))

    def finish(self) -> str | None:
        """Waits until the job is done everywhere, and takes the result. Gives what it lacks, in words, if
        it lacks something."""
        lacks = self.job.finish()
        self.pull()
        return lacks


def shard(dataset: Dataset[Any], job: Job) -> Subset[Any]:
    """The part of `dataset` that this worker trains on: every `job.world_size`-th example of an order that
    the job's seed decides, the same for all."""
    generator = torch.Generator().manual_seed(job.seed)
    order = torch.randperm(len(dataset), generator=generator)  # type: ignore[arg-type]
    return Subset(dataset, order[job.rank :: job.world_size].tolist())


def state_dict(path: str | os.PathLike[str], module: nn.Module) -> dict[str, torch.Tensor]:
    """A trained model, as `gaia export` writes it, with the shapes and types of `module`, to be given to
    `module.load_state_dict`. What was not replicated stays as `module` has it."""
    found = load(path)
    values = dict(module.state_dict())
    for name, table in found.items():
        if name not in values:
            raise ConfigError(f"{os.fspath(path)}: the module has no {name}; allowed: {', '.join(values)}")
        own = values[name]
        if table.size != own.numel():
            raise ConfigError(f"{os.fspath(path)}: {name} has {table.size} values; allowed: {own.numel()}")
        values[name] = torch.from_numpy(table.copy()).reshape(own.shape).to(own.dtype)
    return values
