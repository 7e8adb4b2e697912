import math
from pathlib import Path

import pytest
import torch

from hexavit.inference import Run
from hexavit.training.loop.non_finite import NotFiniteError, save_bad_batch
from hexavit.training.loop.train_state import TrainState


@pytest.mark.parametrize("finished", [False, True])
def test_weights_of_the_previous_epoch_are_named_if_there_are_any(finished: bool, tmp_path: Path) -> None:
    run = Run(tmp_path)
    if finished:
        run.weights("last").parent.mkdir()
        run.weights("last").touch()
    message = str(
        save_bad_batch(NotFiniteError("loss", math.nan, torch.ones(1), torch.ones(1), TrainState()), run, seed=0)
    )
    assert message.startswith("the loss became nan in epoch 1, step 1: try a lower lr; ")
    assert message.endswith("those after the previous epoch in " + str(tmp_path / "weights")) is finished
    assert ("previous epoch" in message) is finished
