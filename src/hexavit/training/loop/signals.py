"""What a training does when it is told to go: SIGTERM and SIGINT, the second of which is not waited for."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 8.0
"""Seconds that a step has to come to its end; leaving takes 10 at most."""


class Leave(BaseException):
    """Raised between two steps, when everything is written, to leave the loop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Leaving:
    """Notes the first signal for the loop, which looks at :attr:`asked` between its steps; the second ends the process.

    A step that takes more than :data:`PATIENCE` seconds longer is given up with all since the last checkpoint: a
    process cannot be stopped within it and be left in a state to go on from.

    Args:
        give_up: called before the process ends within a step; a thread calls it.
        children: gives the processes that end with this one.
    """

    def __init__(self, give_up: Callable[[], None], children: Callable[[], list[Any]] = list) -> None:
        self.asked = 0
        self._process = os.getpid()
        self._give_up = give_up
        self._children = children
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def listen(self) -> None:
        """Answer the signals from now on. Only a main thread can; in another it does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}

    def stop(self) -> None:
        """Let those answer who did before."""
        if self._timer is not None:
            self._timer.cancel()
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # a reading process that has not yet set its own answer
            return
        if self.asked:
            self._end(number)
        self.asked = number
        self._timer = threading.Timer(PATIENCE, self._too_long)
        self._timer.daemon = True
        self._timer.start()

    def _too_long(self) -> None:
        self._give_up()
        self._end(self.asked)

    def _end(self, number: int) -> None:
        for child in self._children():
            child.kill()
        sys.stdout.flush()
        os._exit(128 + number)
