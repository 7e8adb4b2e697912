"""Engines leave the process as it was."""

import subprocess
import sys

import pytest
from tests.inference.exported import exported

PROGRAM = """
import faulthandler, signal, sys
import numpy as np
faulthandler.enable()  # has a stack for signal handlers, as PyTorch's and Rust's libraries may have
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
import hexavit
image = np.zeros((8, 8, 3), np.uint8)
opened = [hexavit.load_predictor(sys.argv[1]) for _ in range(3)]
for each in opened:
    each(image)
del each
while opened:
    del opened[0]  # the first one ends first
signal.raise_signal(signal.SIGUSR1)
"""


def test_signals_are_handled_after_models_of_openvino_have_ended() -> None:
    """With a core for each model, the process dies of SIGSEGV here."""
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(exported(".xml"))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "handled\n", "")
