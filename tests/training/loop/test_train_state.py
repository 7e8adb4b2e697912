from hexavit.training.loop.train_state import TrainState


def test_state_adds_up_steps_and_starts_epochs() -> None:
    state = TrainState(epoch=2)
    assert str(state) == "with epoch 3"
    state.add(2.0, images=8, seconds=2.0)
    state.add(1.0, images=4, seconds=1.0)
    assert (state.step, state.mean_loss, state.images_per_second) == (2, 20 / 12, 4)
    assert str(state) == "after step 2 of epoch 3"
    assert TrainState(**state.as_dict()) == state
    state.next_epoch()
    assert state == TrainState(epoch=3)
