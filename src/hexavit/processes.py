"""The rank and world size of a process, its share of a batch, and sums over all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """The position of a process among those of a run; by default the only one.

    Attributes:
        rank: rank of the process, from 0; only the first one writes files and prints.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Rank and size of the default process group, if it is initialised."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def share(self, count: int) -> range:
        """This process's contiguous share of ``count`` items; the sizes of shares differ by at most one."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The sum of each value over all processes, which must all call this."""
        if self.world == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        added: list[float] = summed.tolist()
        return added
