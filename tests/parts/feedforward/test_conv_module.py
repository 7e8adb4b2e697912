"""The grouped convolutions beside an attention compute what their docstring states."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hexavit.parts import Tokens
from hexavit.parts.feedforward import ConvModule

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("layers", [2, 3])
def test_it_is_its_convolutions(layers: int) -> None:
    torch.manual_seed(0)
    part = ConvModule(8, ratio=2.0, groups=4, layers=layers).eval()
    convs = [m for m in part.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    assert [conv.weight.shape[0] for conv in convs] == [16, 8, 8][:layers]
    x = torch.randn(2, 8, 5, 6)
    y = x
    for i, conv in enumerate(convs):
        y = F.conv2d(y, conv.weight, conv.bias, padding=1, groups=4)
        if i < layers - 1:
            norm = norms[i]
            y = F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        if i < layers - 1 or layers == 3:
            y = F.silu(y)
    tokens = Tokens(x.flatten(2).transpose(1, 2), (5, 6), extra=torch.randn(2, 1, 8))
    out = part(tokens)
    torch.testing.assert_close(out.map, y)
    assert out.extra is not None
    assert not out.extra.any()


@pytest.mark.parametrize("groups", [0, 3, 5])
def test_groups_that_do_not_divide_the_widths_raise(groups: int) -> None:
    with pytest.raises(ValueError, match=f"groups must divide the widths 8 and 16, not {groups}"):
        ConvModule(8, groups=groups)
