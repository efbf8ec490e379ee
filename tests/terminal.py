"""Commands on a terminal of their own, as a person sees them."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_terminal(columns, *words, stdout_too=True):
    """What a command prints on a terminal of so many columns; with `stdout_too=False` only what goes to stderr."""
    inner, outer = pty.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "recal_bench.cli", *map(str, words)]
    stdout = outer if stdout_too else subprocess.DEVNULL
    with subprocess.Popen(command, stdin=outer, stdout=stdout, stderr=outer, env=env | {"TERM": "xterm"}) as process:
        os.close(outer)
        shown = b""
        while True:
            try:
                part = os.read(inner, 65_536)
            except OSError:  # what Linux says when the other end is closed
                break
            if not part:
                break
            shown += part
    os.close(inner)
    assert process.returncode == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")
