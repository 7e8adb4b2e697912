"""The processes of one training: which this one is, what it takes of a batch, and sums over all of them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from hexavit.errors import HexavitError
from hexavit.processes import Processes

_RUN = "HEXAVIT_RUN"
_LIGHTNING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Launch:
    """How the processes of a training come to be, known before they have met.

    Attributes:
        rank: of this process.
        devices: processes on each machine.
        nodes: machines.
        by: who starts them: ``torchrun``, ``slurm``, or ``self``, the first one those after it.
    """

    rank: int = 0
    devices: int = 1
    nodes: int = 1
    by: Literal["self", "torchrun", "slurm"] = "self"

    @classmethod
    def find(cls, devices: int, *, binding: bool = True) -> Launch:
        """By the variables that torchrun, srun or Lightning set; else ``devices`` processes on this machine.

        Raises:
            HexavitError: when ``devices`` is ``binding``, and neither 1 nor what torchrun or SLURM started.
        """
        known = os.environ
        interactive = known.get("SLURM_JOB_NAME") in ("bash", "interactive")
        if "TORCHELASTIC_RUN_ID" in known:
            world, local = int(known["WORLD_SIZE"]), int(known["LOCAL_WORLD_SIZE"])
            found = cls(int(known["RANK"]), local, world // local, "torchrun")
        elif int(known.get("SLURM_NTASKS", 1)) > 1 and not interactive:
            world, nodes = int(known["SLURM_NTASKS"]), int(known.get("SLURM_NNODES", 1))
            found = cls(int(known["SLURM_PROCID"]), world // nodes, nodes, "slurm")
        else:
            return cls(int(known.get("LOCAL_RANK", 0)) if devices > 1 else 0, devices)
        if binding and devices not in (1, found.devices):
            raise HexavitError(
                f"{found.by} started {found.devices} processes on each machine, so devices cannot be {devices}"
            )
        return found

    @property
    def processes(self) -> Processes:
        """Those that will train together."""
        return Processes(self.rank, self.devices * self.nodes)

    @property
    def environment(self) -> ClusterEnvironment:
        """What Lightning calls so."""
        if self.by == "torchrun":
            return TorchElasticEnvironment()
        return SLURMEnvironment(auto_requeue=False) if self.by == "slurm" else LightningEnvironment()

    @property
    def strategy(self) -> Strategy | str:
        """For Lightning's trainer."""
        return "auto" if self.processes.world == 1 else DDPStrategy(cluster_environment=self.environment)

    def tell_run(self, run: str | None) -> None:
        """Let the others go on with the run folder that the first one has made ready, or with none: it failed."""
        if self.processes.world == 1:
            return
        if self.by == "self":
            os.environ[_RUN] = run or ""  # they are started later, and inherit it
        else:
            self._meet()
            dist.broadcast_object_list([run])

    def hear_run(self) -> str:
        """The run folder that the first process has made ready.

        Raises:
            SystemExit: when it has failed; it said why.
        """
        if self.by == "self":
            return os.environ[_RUN]
        self._meet()
        heard: list[str | None] = [None]
        dist.broadcast_object_list(heard)
        if heard[0] is None:
            raise SystemExit(1)
        return heard[0]

    def _meet(self) -> None:
        if dist.is_initialized():
            return
        environment = self.environment
        os.environ.setdefault("MASTER_ADDR", environment.main_address)
        os.environ.setdefault("MASTER_PORT", str(environment.main_port))
        # Lightning takes the group that it finds.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.processes.world)
        atexit.register(leave_group)

    @contextmanager
    def leading(self, run: Callable[[], str]) -> Iterator[None]:
        """Around what the first process makes ready for all: afterwards it tells them, also of its failure."""
        try:
            yield
        except BaseException:
            self.tell_run(None)
            raise
        self.tell_run(run())


@contextmanager
def own_processes(launch: Launch) -> Iterator[None]:
    """Around a training: the variables and the process group that Lightning leaves behind are taken away again."""
    before = {name: os.environ.get(name) for name in (*_LIGHTNING, _RUN)}
    try:
        yield
    finally:
        if launch.by == "self" and launch.devices > 1:
            leave_group()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None and name != _RUN:
                    os.environ[name] = value


def leave_group() -> None:
    """Leave the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
