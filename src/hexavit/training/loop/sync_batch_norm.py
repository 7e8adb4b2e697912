"""Batch norm over the images of all processes: PyTorch's ``SyncBatchNorm`` on accelerators, our own on the CPU."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


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
        x = input.to(torch.promote_types(input.dtype, torch.float32)).movedim(1, -1)  # (n, ..., C)
        dims = list(range(x.ndim - 1))
        count = torch.full((1,), x[..., 0].numel(), dtype=x.dtype, device=x.device)
        total, mean = all_reduce(torch.cat((count, x.sum(dims)))).split((1, x.shape[-1]))
        total = total.detach()
        centred = x - mean / total
        variance = all_reduce(centred.square().sum(dims)) / total
        if self.running_mean is not None:
            self._update_running(mean.detach() / total, variance.detach() * total / (total - 1))
        y = centred * (variance + self.eps).rsqrt()
        if self.weight is not None:
            y = y * self.weight + self.bias
        out: Tensor = y.movedim(-1, 1).to(input.dtype)
        return out

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        running_mean, running_var, batches = self.running_mean, self.running_var, self.num_batches_tracked
        assert running_mean is not None
        assert running_var is not None
        assert batches is not None
        batches.add_(1)
        share = 1 / float(batches) if self.momentum is None else self.momentum
        running_mean.lerp_(mean.to(running_mean.dtype), share)
        running_var.lerp_(variance.to(running_var.dtype), share)


def sync_batch_norms(model: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
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
