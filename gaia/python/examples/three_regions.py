"""Trains an example in three regions of real processes on this machine, over emulated links, and compares it
with one process that does the same work:

    python three_regions.py digits_numpy.py
    python three_regions.py digits_torch.py --gaia ../../../target/release/gaia
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} has ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("example", nargs="?", default="digits_numpy.py", help="which one [default: %(default)s]")
    arguments.add_argument("--gaia", default=shutil.which("gaia"), help="the gaia program [default: that of PATH]")
    arguments.add_argument("--strategy", default="asp", help="what crosses the WAN [default: %(default)s]")
    chosen = arguments.parse_args()
    if chosen.gaia is None:
        arguments.error("there is no gaia in PATH; --gaia says where it is")
    example = [sys.executable, HERE / chosen.example]
    with tempfile.TemporaryDirectory(prefix="gaia-example-") as name:
        directory = Path(name)
        job, out, model = directory / "job.toml", directory / "out", directory / "model.safetensors"
        job.write_text(run(*example, "--job"))
        settings = [f"--set=output.directory={out}", f"--set=job.strategy={chosen.strategy}"]
        place = ["--job", job, "--directory", directory / "demo", "--no-view", *settings]
        print(run(chosen.gaia, "demo", *place, "--", *example), end="")
        run(chosen.gaia, "export", out, "--region", "virginia", "--out", model)
        regions, alone = run(*example, "--evaluate", model), run(*example, "--alone")
    print(f"accuracy   {regions.strip()} over three regions, {alone.strip()} in one process")


if __name__ == "__main__":
    main()
