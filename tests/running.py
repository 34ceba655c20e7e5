"""A host that a test starts: on free ports of loopback, in a folder of its own, with a time to be ready in."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

READY_S = 60
ENDED_S = 60


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(command: list[str], log: Path, ready: str, env: dict[str, str], seconds: int = READY_S) -> subprocess.Popen:
    """A program that has answered at `ready`; what it says goes into `log`. It leads a group of its own."""
    with open(log, "w") as said:
        running = subprocess.Popen(command, cwd=log.parent, env={**os.environ, **env}, stdout=said, stderr=said,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until and running.poll() is None:
        try:
            urllib.request.urlopen(ready, timeout=5).read()
            return running
        except OSError:
            time.sleep(0.1)
    stop(running, signal.SIGKILL)
    sys.exit(f"{command[0]} is not ready after {seconds} s at most:\n{log.read_text()[-4_000:]}")


def stop(running: subprocess.Popen, how: int = signal.SIGTERM) -> None:
    """Ends a program and all that it has started; by force if it takes too long."""
    if running.poll() is None:
        os.killpg(running.pid, how)
    try:
        running.wait(timeout=ENDED_S)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(timeout=ENDED_S)


def serve(chela: str, folder: Path, config: str, keys: dict[str, str]) -> tuple[subprocess.Popen, str]:
    """A host with `config`, whose `{public}` and `{admin}` become free ports, and its address."""
    public, admin = free_port(), free_port()
    (folder / "chela.toml").write_text(config.format(public=public, admin=admin))
    address = f"http://127.0.0.1:{public}"
    command = [chela, "up", "--config", "chela.toml"]
    return start(command, folder / "log", address + "/readyz", keys), address


def raises(kind, work):
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
