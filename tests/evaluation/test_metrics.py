import torch

from hexavit.evaluation.metrics import figure


def test_a_figure_is_written_without_the_tail_of_its_bits() -> None:
    assert str(figure(torch.tensor(23 / 24))) == "0.9583333"
    assert torch.tensor(figure(torch.tensor(23 / 24))) == torch.tensor(23 / 24)
    assert figure(torch.tensor(1 / 3, dtype=torch.float64)) == 1 / 3
