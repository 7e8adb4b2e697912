"""The sum around a branch."""

import torch
from torch import nn

from hexavit.parts import Tokens
from hexavit.parts.residual import PreNorm


def test_the_skip_is_max_pooled_where_the_branch_is_smaller() -> None:
    """Windows of 2 x 2, the last ones cut at the border: by hand for 3 x 4 numbers."""
    residual = PreNorm(1, 2, 1e-6, 0.0)
    residual.norm = nn.Identity()
    image = torch.tensor([[1, 8, 3, 4], [5, 2, 9, 0], [-7, -3, -2, -6]]).float().reshape(1, 12, 1)
    given = Tokens(image, (3, 4), extra=torch.full((1, 1, 1), 50.0))

    def branch(tokens: Tokens) -> Tokens:
        assert tokens.extra is not None
        return Tokens(torch.full((1, 4, 1), 100.0), (2, 2), extra=tokens.extra)

    out = residual(given, branch)
    assert out.size == (2, 2)
    assert out.image.flatten().tolist() == [108, 109, 97, 98]
    assert out.extra is not None
    assert out.extra.item() == 100
