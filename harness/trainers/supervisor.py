"""Runs a program that ends when whoever asked for it ends; a script of the standard library alone.

Arguments: the file for the exit status, the descriptor of a lock that stays held as long as the program lives, the
program and its arguments. Standard input is a pipe whose other end the asker holds: when that closes, the program and
all that it started are asked to end, then made to. The exit status is written whole, and only of a program that ended
by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 5.0
NOT_STARTED = 127


def main() -> int:
    """Runs the program; gives its exit status, negative for a signal."""
    status_file, lock, *arguments = sys.argv[1:]
    try:
        program = subprocess.Popen(  # noqa: S603  (what the recipe names, without a shell)
            arguments, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[int(lock)]
        )
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return NOT_STARTED
    ending = threading.Event()
    threading.Thread(target=_end_with_asker, args=(program.pid, ending), daemon=True).start()
    status = program.wait()
    _signal(program.pid, signal.SIGKILL)  # what it left running behind it
    if not ending.is_set():
        _write(status_file, str(status))
    return status


def _end_with_asker(group: int, ending: threading.Event) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written: this returns when the other end is closed
    ending.set()
    _signal(group, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    sys.exit(main() % 256)
