import pytest
import torch
from tests.using import tiny
from torch import nn

from hexavit.errors import ArchitectureError
from hexavit.training.module import Classifier
from hexavit.training.objectives import CrossEntropy


def test_smoothing_spreads_the_target() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    log_p = logits.log_softmax(-1)[0]
    smoothed = CrossEntropy(0.2)(logits, torch.tensor([0]))
    assert float(smoothed) == pytest.approx(float(-0.9 * log_p[0] - 0.1 * log_p[1]))
    assert float(CrossEntropy()(logits, torch.tensor([[0.5, 0.5]]))) == pytest.approx(float(-log_p.mean()))


def test_a_model_of_several_answers_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="gives several, as a tuple"):
        CrossEntropy()((torch.zeros(1, 2), torch.zeros(1, 2)), torch.tensor([0]))


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
def test_mixing_gives_mixtures_of_targets(settings: dict[str, float]) -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append(target)
            return logits.mean()

    module = Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), tiny("digits", **settings), 3)
    module.lesson.objective = Spy()  # type: ignore[assignment]
    module.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    module.training_step((torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])), 0)
    assert seen[0].shape == (4, 3)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(4))
