"""The rank and world size of this process, its share of a batch, and sums over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """One process among those that train together; alone by default.

    Attributes:
        rank: its number, from 0; the first one alone writes and tells.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Those of the process group, once it stands."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def share(self, count: int) -> range:
        """The places among ``count`` that this process takes: contiguous, and none takes two more than another."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each value summed over the processes; all of them must call it at the same point."""
        if self.world == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        added: list[float] = summed.tolist()
        return added
