"""SIGTERM and SIGINT during a run: the first one stops it after the current step, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEP_LIMIT = 8.0
"""Seconds that the current step may still take after a signal, so that the process ends within 10 seconds."""


class Interrupted(BaseException):
    """Raised between two steps after a signal, when the checkpoint is written.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class SignalListener:
    """Records the first signal in :attr:`received`, which the loop reads between steps; the second ends the process.

    If the loop does not end within :data:`STEP_LIMIT` seconds, the process ends without a checkpoint: a step cannot be
    interrupted in a state from which training could continue.

    Args:
        on_timeout: called, in another thread, before the process ends within a step.
        children: returns the processes that are killed with this one.
    """

    def __init__(self, on_timeout: Callable[[], None], children: Callable[[], list[Any]] = list) -> None:
        self.received = 0
        self._process = os.getpid()
        self._on_timeout = on_timeout
        self._children = children
        self._previous: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Install the handlers. Python allows it in the main thread only; in another one this does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._handle) for each in SIGNALS}

    def stop(self) -> None:
        """Restore the previous handlers."""
        if self._timer is not None:
            self._timer.cancel()
        for each, handler in self._previous.items():
            signal.signal(each, handler)
        self._previous = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked data worker that has not set its own handlers yet
            return
        if self.received:
            self._end(number)
        self.received = number
        self._timer = threading.Timer(STEP_LIMIT, self._time_out)
        self._timer.daemon = True
        self._timer.start()

    def _time_out(self) -> None:
        self._on_timeout()
        self._end(self.received)

    def _end(self, number: int) -> None:
        for child in self._children():
            child.kill()
        sys.stdout.flush()
        os._exit(128 + number)
