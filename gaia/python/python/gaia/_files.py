"""Trained models as files."""

from __future__ import annotations

import json
import os
from typing import Any

from gaia.errors import ConfigError

__all__ = ["load"]


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a model that `gaia export` or a server has written (safetensors): NumPy arrays of float32 by
    table, shape `[rows, width]`, mapped from the file.

    `gaia.torch.state_dict` gives them the shapes of a module's parameters. Raises ConfigError if the file
    is no such file. Needs NumPy.
    """
    import numpy

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ConfigError(f"{os.fspath(path)} is no safetensors file: it is too short for its header")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ConfigError(f"{os.fspath(path)} is no safetensors file: {error}") from error
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r", offset=8 + length) if size > 8 + length else numpy.empty(0, numpy.uint8)
    arrays = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] != "F32":
            raise ConfigError(f"{os.fspath(path)}: {name} has type {tensor['dtype']}; allowed: F32")
        first, last = tensor["data_offsets"]
        count = int(numpy.prod(tensor["shape"], dtype=numpy.int64))
        if not 0 <= first <= last <= data.size or last - first != 4 * count:
            raise ConfigError(f"{os.fspath(path)}: {name} does not lie within the file")
        arrays[name] = data[first:last].view("<f4").reshape(tensor["shape"])
    return arrays
