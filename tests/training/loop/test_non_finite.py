import math
from pathlib import Path

import pytest
import torch

from hexavit.inference import Run
from hexavit.training.loop.module import NotFiniteError
from hexavit.training.loop.non_finite import keep_batch
from hexavit.training.loop.train_state import Position


@pytest.mark.parametrize("finished", [False, True])
def test_weights_of_an_epoch_are_named_once_there_are_any(finished: bool, tmp_path: Path) -> None:
    run = Run(tmp_path)
    if finished:
        run.weights("last").parent.mkdir()
        run.weights("last").touch()
    told = str(keep_batch(NotFiniteError("loss", math.nan, torch.ones(1), torch.ones(1), Position()), run, seed=0))
    assert told.startswith("the loss became nan in epoch 1, step 1: try a lower lr; ")
    assert told.endswith("those of the epoch before in " + str(tmp_path / "weights")) is finished
    assert ("epoch before" in told) is finished
