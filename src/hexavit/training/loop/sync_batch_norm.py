"""Batch norm over the images of all processes: PyTorch's ``SyncBatchNorm`` on accelerators, our own on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Synced(torch.autograd.Function):
    """y = (x - m) / sqrt(v + eps), with mean m and variance v over the samples of all processes.

    With g = dL/dy, N the number of samples and <.> their sum, both over all processes:
    dL/dx = (g - <g> / N - y <g y> / N) / sqrt(v + eps) (Ioffe & Szegedy, ICML 2015, section 3). It communicates once
    in the forward and once in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From x (n, C, ...) to y in the same shape, m (C,), v (C,) and N ()."""
        exact = torch.promote_types(x.dtype, torch.float32)
        dims = [dim for dim in range(x.ndim) if dim != 1]
        samples = x.to(exact)
        own = torch.full((1,), x.numel() / x.shape[1], dtype=exact, device=x.device)
        own_var, own_mean = torch.var_mean(samples, dims, correction=0)
        mine = torch.cat((own, own_mean, own_var))  # (1 + 2 C,)
        gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, mine)
        counts, means, variances = torch.stack(gathered).split((1, x.shape[1], x.shape[1]), dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
        inverse = (variance + eps).rsqrt()
        shape = [1, -1, *[1] * (x.ndim - 2)]
        y = (samples - mean.view(shape)) * inverse.view(shape)
        ctx.save_for_backward(y, inverse, total)
        ctx.dims, ctx.shape, ctx.dtype = dims, shape, x.dtype
        ctx.mark_non_differentiable(mean, variance, total)
        return y, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """See the formula above."""
        y, inverse, total = ctx.saved_tensors
        grad = grads[0].to(y.dtype)
        sums = torch.stack((grad.sum(ctx.dims), (grad * y).sum(ctx.dims)))  # (2, C)
        dist.all_reduce(sums)
        along, across = (each.view(ctx.shape) for each in sums / total)
        return ((grad - along - y * across) * inverse.view(ctx.shape)).to(ctx.dtype), None


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm for the CPU whose training statistics are those of the images of all processes.

    The processes may have different numbers of images. In a single process, and in evaluation mode, it equals
    ``nn.BatchNorm2d``. PyTorch's ``SyncBatchNorm`` raises an error for CPU tensors. All processes must call it equally
    often.

    Shapes: (n, C), (n, C, L) or (n, C, H, W) to the same.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs an input of at least two dimensions, not {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        """(n, C, ...) to the same."""
        distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not distributed or not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        y, mean, variance, total = _Synced.apply(input, self.eps)
        if self.running_mean is not None:
            self._update_running(mean, variance, total)
        if self.weight is not None:
            shape = [1, -1, *[1] * (input.ndim - 2)]
            y = y * self.weight.view(shape) + self.bias.view(shape)
        out: Tensor = y.to(input.dtype)
        return out

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        running_mean, running_var, seen = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None
        assert running_var is not None
        assert seen is not None
        seen.add_(1)
        share = 1 / float(seen) if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), share)
        running_var.lerp_((variance * total / (total - 1)).to(running_var.dtype), share)


def sync_batch_norms(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Replace every batch norm by a synchronised one with the same tensors; names in the state dict do not change.

    Args:
        model: changed in place, unless it is itself a batch norm.
        device: where it will be trained: ``cpu`` gives :class:`SyncedBatchNorm`, others ``nn.SyncBatchNorm``.

    Returns:
        The model.
    """
    if torch.device(device).type != "cpu":
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return synced
    if isinstance(model, _BatchNorm) and not isinstance(model, SyncedBatchNorm):
        return _synced(model)
    for name, child in model.named_children():
        setattr(model, name, sync_batch_norms(child, device))
    return model


def _synced(norm: _BatchNorm) -> SyncedBatchNorm:
    synced = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced.weight, synced.bias = norm.weight, norm.bias
    synced.running_mean, synced.running_var = norm.running_mean, norm.running_var
    synced.num_batches_tracked = norm.num_batches_tracked
    return synced.train(norm.training)
