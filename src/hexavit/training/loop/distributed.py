"""How the processes of a run are started, and how the first one shares the run folder with the others."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

from hexavit.errors import HexavitError
from hexavit.processes import Processes
from hexavit.training.loop.sharding import shard as shard_weights

_RUN = "HEXAVIT_RUN"
_SET_BY_FABRIC = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Launch:
    """How the processes of a run are started; known before the process group exists.

    Attributes:
        rank: rank of this process.
        devices: processes on each machine.
        nodes: number of machines.
        by: what starts the processes: ``torchrun``, ``slurm``, or ``self`` (the first process starts the others).
    """

    rank: int = 0
    devices: int = 1
    nodes: int = 1
    by: Literal["self", "torchrun", "slurm"] = "self"

    @classmethod
    def find(cls, devices: int, *, binding: bool = True) -> Launch:
        """Read the environment variables of torchrun, srun or Fabric; without them, ``devices`` local processes.

        Raises:
            HexavitError: ``binding`` is set, and ``devices`` is neither 1 nor what torchrun or SLURM started.
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
        """Rank and world size of the run."""
        return Processes(self.rank, self.devices * self.nodes)

    @property
    def environment(self) -> ClusterEnvironment:
        """The cluster environment for Fabric."""
        if self.by == "torchrun":
            return TorchElasticEnvironment()
        return SLURMEnvironment(auto_requeue=False) if self.by == "slurm" else LightningEnvironment()

    def fabric_options(self, shard: bool) -> dict[str, Any]:
        """Arguments for Fabric: DDP or, with ``shard``, FSDP2, over the processes; nothing special for one.

        Raises:
            HexavitError: there is a single process, so that nothing can be split.
        """
        world = self.processes.world
        if shard and world == 1:
            raise HexavitError("shard needs several processes: use devices, torchrun or SLURM")
        options: dict[str, Any] = {"devices": self.devices, "num_nodes": self.nodes, "strategy": "auto"}
        if shard:
            strategy = ModelParallelStrategy(shard_weights, data_parallel_size=world, tensor_parallel_size=1)
            return {**options, "strategy": strategy, "plugins": [self.environment]}
        return options if world == 1 else {**options, "strategy": DDPStrategy(cluster_environment=self.environment)}

    def send_run(self, run: str | None) -> None:
        """Send the run folder to the other processes; None if the first process failed to prepare it."""
        if self.processes.world == 1:
            return
        if self.by == "self":
            os.environ[_RUN] = run or ""  # inherited by the processes, which are started later
        else:
            self._join_group()
            dist.broadcast_object_list([run])

    def receive_run(self) -> str:
        """The run folder that the first process prepared.

        Raises:
            SystemExit: the first process failed, and printed why.
        """
        if self.by == "self":
            return os.environ[_RUN]
        self._join_group()
        received: list[str | None] = [None]
        dist.broadcast_object_list(received)
        if received[0] is None:
            raise SystemExit(1)
        return received[0]

    def _join_group(self) -> None:
        if dist.is_initialized():
            return
        environment = self.environment
        os.environ.setdefault("MASTER_ADDR", environment.main_address)
        os.environ.setdefault("MASTER_PORT", str(environment.main_port))
        # Fabric uses an existing group.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.processes.world)
        atexit.register(leave_group)

    @contextmanager
    def preparing(self, run: Callable[[], str]) -> Iterator[None]:
        """Around the preparation of the run folder by the first process: afterwards the others learn its path."""
        try:
            yield
        except BaseException:
            self.send_run(None)
            raise
        self.send_run(run())


@contextmanager
def restored_environment(launch: Launch) -> Iterator[None]:
    """Around a run: removes the process group and the environment variables of processes that Fabric started."""
    before = {name: os.environ.get(name) for name in (*_SET_BY_FABRIC, _RUN)}
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
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
