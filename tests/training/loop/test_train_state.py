from hexavit.training.loop.train_state import Position


def test_it_adds_up_steps_and_begins_epochs() -> None:
    position = Position(epoch=2)
    assert str(position) == "with epoch 3"
    position.add(2.0, images=8)
    position.add(1.0, images=4)
    assert (position.done, position.last, position.mean_loss) == (2, 1.0, 20 / 12)
    assert str(position) == "after step 2 of epoch 3"
    assert Position(**position.as_dict()) == position
    position.next_epoch()
    assert position == Position(epoch=3)


def test_after_the_last_step_the_loop_comes_to_judging_by_the_last_batch() -> None:
    assert [Position(done=done).first_batch(3) for done in range(4)] == [0, 1, 2, 2]
