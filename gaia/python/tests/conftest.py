"""A region of its own for each test: one server process on loopback, and workers in the test's process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def program() -> str:
    """The `gaia` program: that of GAIA_PROGRAM, or what cargo has built last."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    candidates = [os.environ.get("GAIA_PROGRAM"), *map(str, (target / "release/gaia", target / "debug/gaia")), shutil.which("gaia")]
    found = [candidate for candidate in candidates if candidate and Path(candidate).exists()]
    if not found:
        pytest.skip("there is no gaia program; GAIA_PROGRAM says where it is")
    return found[0]


def free_ports(kind: int, count: int) -> list[int]:
    sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


TABLES = """
[[model.tables]]
name = "items"
rows = 1000
width = 32
initial = "constant"
value = 1.0

[[model.tables]]
name = "small"
rows = 3
width = 2
"""


class Region:
    """One region of the name `here`, whose server is a process."""

    def __init__(self, directory: Path, *, workers: int = 1, clocks: int = 1000, staleness: int = 0, tables: str = TABLES) -> None:
        lan, wan = free_ports(socket.SOCK_STREAM, 1)[0], free_ports(socket.SOCK_DGRAM, 1)[0]
        (directory / "job.toml").write_text(
            f"name = 'own'\nclocks = {clocks}\nstaleness = {staleness}\nshards = 2\n"
            f"[[regions]]\nname = 'here'\nworkers = {workers}\n"
            f"[data]\nformat = 'own'\n[model]\nkind = 'external'\n{tables}"
        )
        self.config = directory / "here.toml"
        self.config.write_text(
            f"datacenter = 'here'\njob = 'job.toml'\n[servers]\naddresses = ['127.0.0.1:{lan}']\n"
            f"[wan]\nlisten = '127.0.0.1:{wan}'\n[tls]\ndirectory = 'certs'\n"
            f"[output]\ndirectory = 'out'\n[checkpoint]\nlocation = 'kept'\n[grace]\nworker = '15 s'\n"
        )
        certs = ("--directory", str(directory / "certs"))
        self.run("certs", "init", *certs)
        self.run("certs", "issue", "--config", str(self.config), *certs)
        self.log = directory / "server.log"
        self.server: subprocess.Popen[bytes] | None = None
        self.start()

    @staticmethod
    def run(*arguments: str) -> None:
        done = subprocess.run([program(), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.server = subprocess.Popen(
                [program(), "server", "--config", str(self.config), "--index", "0"], stdout=log, stderr=log
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.server is not None
        self.server.send_signal(number)
        return self.server.wait(60)

    def worker(self, index: int, *command: str) -> subprocess.Popen[str]:
        """`gaia worker -- command`."""
        arguments = [program(), "worker", "--config", str(self.config), "--index", str(index), "--", sys.executable, *command]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self) -> None:
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.wait()


@pytest.fixture
def region(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Region]:
    made = Region(tmp_path, **getattr(request, "param", {}))
    yield made
    made.end()
