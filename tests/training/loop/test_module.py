import pytest
import torch
from tests.using import tiny
from torch import nn

from hexavit.errors import ArchitectureError
from hexavit.processes import Processes
from hexavit.training.loop.module import Classifier
from hexavit.training.objectives.losses import CrossEntropy


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
    module = Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), tiny("digits", **settings), 3)
    _, target = module.mixed(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert target.shape == (4, 3)
    torch.testing.assert_close(target.sum(-1), torch.ones(4))


@pytest.mark.parametrize("settings", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}])
@pytest.mark.parametrize("seed", range(4))
def test_processes_mix_as_one_would(settings: dict[str, float], seed: int) -> None:
    module = Classifier(nn.Identity(), tiny("digits", seed=seed, **settings), 3)
    images, labels = torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    whole = module.mixed(images, labels)
    parts = []
    for rank in range(2):
        module.join(Processes(rank, 2))
        share = module.processes.share(5)
        halo = [place % 5 for place in range(share.start - 1, share.stop)]
        parts.append(module.mixed(images[halo], labels[halo]))
    for one, some in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(some), one, rtol=0, atol=0)
