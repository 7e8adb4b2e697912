"""What a head reads of the last tokens, by hand."""

import torch
from torch import nn

from hexavit.parts import Tokens
from hexavit.parts.heads import ClassTokenHead, PoolHead, TokenLabelHead, TwoHeads
from hexavit.parts.heads.heads import Head

IMAGE = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])


def output(head: Head, *extra: list[float]) -> list[float]:
    """The logits, with an identity for each norm and classifier; the second classifier multiplies by 10."""
    head.norm = nn.Identity()
    for name, factor in zip(head.classifiers, (1.0, 10.0), strict=False):
        linear = getattr(head, name)
        linear.weight.data, linear.bias.data = factor * torch.eye(2), torch.zeros(2)
    tokens = Tokens(IMAGE[None], (3, 1), extra=torch.tensor([list(extra)]))
    logits: list[float] = head.eval()(tokens)[0].tolist()
    return logits


def test_pool_averages_the_image_tokens_alone() -> None:
    assert output(PoolHead(2, 1e-6, 2), [100.0, -100.0]) == [3.0, 5.0]


def test_class_token_reads_the_first_extra_token() -> None:
    assert output(ClassTokenHead(2, 1e-6, 2), [7.0, 8.0], [100.0, 100.0]) == [7.0, 8.0]


def test_two_heads_average_their_logits() -> None:
    assert output(TwoHeads(2, 1e-6, 2), [2.0, 4.0], [1.0, 3.0]) == [6.0, 17.0]


def test_token_labels_add_half_the_largest_token_logit() -> None:
    """LV-ViT: class + 0.5 max over tokens, per class."""
    assert output(TokenLabelHead(2, 1e-6, 2), [1.0, 1.0]) == [26.0, 46.0]
