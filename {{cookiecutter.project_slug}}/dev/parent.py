"""A process that must not outlive the one that started it."""

import os
import signal
from threading import Thread
from time import sleep

GRACE = 3.0  # seconds


def end_with_parent() -> None:
    """Stop this process when the one that started it is gone, even if that was killed with SIGKILL.

    Without this a killed `uv run` would leave the server, and a killed server the child that it reloads.
    On Windows nobody can tell; there this does nothing.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        sleep(GRACE)
        os._exit(1)  # a request was still open: the server waits for it, nobody waits for the server

    Thread(target=watch, daemon=True).start()
