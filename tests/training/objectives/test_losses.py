"""Objectives against figures of the authors' own code, on made inputs."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.parity import golden
from tests.parity.test_reference import RECORDS

import hexavit
from hexavit.errors import HexavitError
from hexavit.training.objectives.distillation import Distillation
from hexavit.training.objectives.losses import BinaryCrossEntropy, CrossEntropy, MeanCrossEntropy
from hexavit.training.objectives.token_labels import Box, TokenLabels, mixed_tokens, token_label_targets


def assert_loss(found: torch.Tensor, stored: float) -> None:
    torch.testing.assert_close(found.double(), torch.tensor(stored).double(), rtol=1e-6, atol=0)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "kind", "alpha", "tau"),
    [
        ("soft_tau3_alpha0.1", "soft", 0.1, 3.0),
        ("soft_tau1_alpha0.5", "soft", 0.5, 1.0),
        ("hard_alpha0.5", "hard", 0.5, 1.0),
    ],
)
def test_distillation_is_the_authors(name: str, kind: Any, alpha: float, tau: float) -> None:
    stored = RECORDS["DeiT/distillation_loss"]
    outputs = (drawn(5, 4, 1000), drawn(6, 4, 1000))
    loss = Distillation(CrossEntropy(), kind, alpha, tau)(
        outputs, torch.tensor(stored["inputs"]["labels"]), 2 * drawn(7, 4, 1000)
    )
    assert_loss(loss, stored["loss"][name])


def test_a_single_head_learns_from_labels_and_teacher() -> None:
    stored = RECORDS["DeiT/distillation_loss"]
    labels, teacher = torch.tensor(stored["inputs"]["labels"]), 2 * drawn(7, 4, 1000)
    for kind, alpha, tau in (("hard", 0.5, 1.0), ("soft", 0.1, 3.0)):
        loss: Any = Distillation(CrossEntropy(), kind, alpha, tau)  # type: ignore[arg-type]
        assert torch.equal(loss(drawn(5, 4, 1000), labels, teacher), loss((drawn(5, 4, 1000),) * 2, labels, teacher))
    single = Distillation(CrossEntropy(), "soft", 1.0, 2.0)(drawn(5, 4, 1000), labels, teacher)
    p, q = (teacher.double() / 2).softmax(1), (drawn(5, 4, 1000).double() / 2).softmax(1)
    assert single.item() == pytest.approx(float((p * (p / q).log()).sum() * 4 / 4000), rel=1e-5)


def test_hits_count_the_most_probable_classes_of_labels() -> None:
    first = torch.eye(3)[[0, 1]]
    tokens = torch.eye(3)[torch.tensor([[0, 1, 2, 2], [1, 1, 1, 0]])]
    assert TokenLabels().hits((first, tokens), torch.tensor([0, 2])).tolist() == [1.0, 0.25]
    target = torch.zeros(2, 3, 6)
    for image, classes in enumerate(([2, 1, 0, 1, 2, 2], [2, 1, 1, 1, 0, 0])):  # the true class, then class and tokens
        target[image, classes, range(6)] = 1.0
    assert TokenLabels().hits((first, tokens), target).tolist() == [1.0, 1.75]
    box = Box(0, 0, 2, 2)  # all tokens: the class token has the other image's label
    assert TokenLabels().hits((first[[1, 0]], tokens), torch.tensor([0, 1]), box)[0] == 2.0


def targets(size: int = 14, **options: Any) -> torch.Tensor:
    inputs = RECORDS["LV-ViT/token_label_loss"]["inputs"]
    b, k, h, w = torch.meshgrid(*(torch.arange(n) for n in (2, 5, 18, 18)), indexing="ij")
    return token_label_targets(
        3 * golden.image((2, 5, 18, 18), seed=1).abs(),
        (37 * h + 91 * w + 211 * k + 13 * b) % 1000,
        torch.tensor(inputs["crop_top_left_height_width"]),
        torch.tensor(inputs["ground_truth"]),
        num_classes=1000,
        size=size,
        **options,
    )


def assert_as_stored(found: torch.Tensor, stored: dict[str, Any]) -> None:
    assert list(found.shape) == stored["shape"]
    assert found.double().mean().item() == pytest.approx(stored["mean"], rel=1e-5)
    assert found.double().norm().item() == pytest.approx(stored["norm"], rel=1e-5)
    torch.testing.assert_close(found.flatten()[:4], torch.tensor(stored["first"]), rtol=1e-4, atol=0)


def test_token_label_targets_are_the_authors() -> None:
    stored = RECORDS["LV-ViT/token_label_loss"]
    found = targets()
    assert_as_stored(found, stored["targets"])
    assert_as_stored(0.7 * found + 0.3 * found.flip(0), stored["targets_mixed_lam_0.7"])
    assert_as_stored(targets(size=1), stored["targets_label_size_1"])
    columns = {"class_token_target_top3": 1, "patch0_target_top3": 2, "patch13_target_top3": 15}
    for name, column in {**columns, "patch182_target_top3": 184}.items():
        for image, best in enumerate(stored[name]):
            for place, value in best:
                assert found[image, place, column].item() == pytest.approx(value, rel=1e-4)


def test_rows_and_columns_of_a_crop_as_they_are() -> None:
    assert not torch.allclose(targets(), targets(swapped=False))


def test_token_label_loss_is_the_authors() -> None:
    stored = RECORDS["LV-ViT/token_label_loss"]
    outputs = (drawn(3, 2, 1000), drawn(4, 2, 196, 1000))
    box, target = Box(2, 3, 9, 12), targets()
    assert_loss(TokenLabels()(outputs, target, box), stored["loss"])
    assert_loss(TokenLabels()(outputs, target), stored["loss_without_mix_token"])
    assert_loss(TokenLabels(0.5)(outputs, target, box), stored["loss_dense_weight_0.5"])
    assert_loss(TokenLabels(truth=True)(outputs, target, box), stored["loss_with_ground_truth"])


def test_labels_hold_for_every_token_where_there_is_no_map() -> None:
    outputs = (drawn(3, 2, 5), drawn(4, 2, 6, 5))
    labels = torch.tensor([1, 4])
    expected = CrossEntropy()(outputs[0], labels) + CrossEntropy()(
        outputs[1].flatten(0, 1), labels.repeat_interleave(6)
    )
    torch.testing.assert_close(TokenLabels()(outputs, labels), expected)
    torch.testing.assert_close(MeanCrossEntropy()(outputs, labels), expected / 2)
    mixed = torch.nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(MeanCrossEntropy()(outputs, mixed), expected / 2)


def test_mix_token_is_the_authors() -> None:
    stored, base = RECORDS["LV-ViT/mix_token"], RECORDS["LV-ViT/lvvit_t_224"]
    model = hexavit.create_model("lvvit_t_224").eval()
    hexavit.load_checkpoint(model, golden.state_of(base))
    model.head.train()  # both outputs, with batch norms on their running statistics
    (top, bottom), (left, right) = stored["box"]["rows"], stored["box"]["columns"]
    x = golden.image(stored["input"])
    with torch.no_grad(), mixed_tokens(model, Box(top, left, bottom, right)):
        first, tokens = model(x)
    torch.testing.assert_close(first[:, :8], torch.tensor(stored["class_logits"]), rtol=2e-5, atol=2e-5)
    assert_as_stored(tokens, stored["token_logits"])
    with torch.no_grad():
        assert_as_stored(model(x)[1], stored["token_logits_without_mixing"])


def test_boxes() -> None:
    torch.manual_seed(0)
    boxes = [Box.draw((6, 9)) for _ in range(200)]
    assert all(0 <= b.top <= b.bottom <= 6 and 0 <= b.left <= b.right <= 9 for b in boxes)
    assert {b.area for b in boxes} >= {0, 4}
    x = torch.randn(3, 54, 2)
    for box in boxes[:20]:
        assert torch.equal(box.swap(box.swap(x, (6, 9)), (6, 9)), x)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: Distillation(CrossEntropy())((x, x[:, None]), x, x), "use head=two_heads"),
        (lambda x: TokenLabels()(x, x), "use head=token_labels"),
        (lambda x: Distillation(CrossEntropy(), tau=0), "its tau above 0"),
        (lambda x: CrossEntropy()((x, x), x), "this model returns several"),
    ],
)
def test_errors(call: Any, sentence: str) -> None:
    with pytest.raises(HexavitError, match=sentence):
        call(torch.zeros(2, 3))


def test_binary_cross_entropy_by_hand() -> None:
    logits, target = torch.tensor([[0.0, 2.0], [1.0, -1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # log(1 + e^-x) where the target is 1, log(1 + e^x) where it is 0
    terms = torch.tensor([[0.693147, 2.126928], [1.313262, 1.313262]])
    assert BinaryCrossEntropy()(logits, target).item() == pytest.approx(float(terms.mean()), rel=1e-5)
    weighted = terms * torch.tensor([[3.0, 1.0], [1.0, 0.5]])
    loss = BinaryCrossEntropy(weight=torch.tensor([3.0, 0.5]))(logits, target)
    assert loss.item() == pytest.approx(float(weighted.mean()), rel=1e-5)
    other = torch.tensor([[0.693147, 0.126928], [0.313262, 0.313262]])  # against the opposite targets
    smoothed = BinaryCrossEntropy(0.2)(logits, target).item()
    assert smoothed == pytest.approx(float((0.9 * terms + 0.1 * other).mean()), rel=1e-5)


def test_weights_do_not_depend_on_the_batch() -> None:
    """The mean over images, so that micro-batches add up to the whole batch."""
    logits, target = drawn(1, 6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = CrossEntropy(0.1, torch.tensor([0.5, 2.0, 1.0]))
    parts = [loss(logits[part], target[part]) for part in (slice(0, 4), slice(4, 6))]
    assert float(loss(logits, target)) == pytest.approx(float(parts[0] * 4 / 6 + parts[1] * 2 / 6), rel=1e-6)
    one_hot = torch.eye(3)[target]
    assert float(loss(logits, target)) == pytest.approx(float(loss(logits, one_hot)), rel=1e-6)
