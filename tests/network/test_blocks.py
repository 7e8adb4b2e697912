"""Blocks take and give tensors, so that other people's tools find them."""

import copy
import os
import warnings
from pathlib import Path

import pytest
import torch
import torchinfo
from tests.killing import in_processes
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import hexavit
from hexavit import Tokens
from hexavit.network.block import Block

pytestmark = pytest.mark.usefixtures("one_thread")

NANO = hexavit.list_models("*_nano")


def images(model: hexavit.Backbone, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, *model.architecture.img_size, generator=generator)


def loss_of(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A number of the output, or of the pair of a head with two classifiers in training."""
    return sum(each.square().mean() for each in (out if isinstance(out, tuple) else (out,)))


@pytest.mark.parametrize("name", NANO)
def test_full_backward_hooks_fire_on_every_block(name: str) -> None:
    model = hexavit.create_model(name)
    blocks = [block for stage in model.stages for block in stage.blocks]
    seen: list[nn.Module] = []

    def hook(block: nn.Module, grad_input: tuple[Tensor | None, ...], grad_output: tuple[Tensor | None, ...]) -> None:
        assert grad_input[0] is not None
        assert grad_output[0] is not None
        assert grad_input[0].shape[0] == grad_output[0].shape[0]
        seen.append(block)

    for block in blocks:
        block.register_full_backward_hook(hook)
    loss_of(model(images(model))).backward()
    assert seen == blocks[::-1]


@pytest.mark.parametrize("name", NANO)
def test_torchinfo_shows_every_block(name: str) -> None:
    model = hexavit.create_model(name)
    summary = torchinfo.summary(model, input_size=(2, 3, *model.architecture.img_size), verbose=0)
    # P2T's modules that blocks share make torchinfo list the stage twice.
    rows = list(
        {id(row.module): row for row in summary.summary_list if row.class_name == "Block" and row.output_size}.values()
    )
    assert len(rows) == sum(isinstance(module, Block) for module in model.modules())  # lower resolutions have some, too
    stages = [stage for stage in model.stages if len(stage.blocks)]
    last = [row.output_size[0::2] for row in rows if any(row.module is stage.blocks[-1] for stage in stages)]
    assert last == [[2, stage.out_dim] for stage in stages]
    for row in rows:
        assert row.num_params == sum(p.numel() for p in row.module.parameters())


def test_tokens_are_a_pytree() -> None:
    tokens = Tokens(torch.ones(2, 4, 3), (2, 2), extra=torch.zeros(2, 1, 3), carry={"words": torch.ones(5)})
    leaves, spec = pytree.tree_flatten(tokens)
    assert sum(isinstance(leaf, Tensor) for leaf in leaves) == 3
    again = pytree.tree_unflatten([leaf + 1 if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)
    assert isinstance(again, Tokens)
    assert torch.equal(again.extra, torch.ones(2, 1, 3))
    assert again.prefix == 1


@pytest.mark.parametrize("name", ["deit_nano", "swin_nano"])
def test_a_block_runs_on_plain_tensors(name: str) -> None:
    """On what a hook saw it give for its input."""
    model = hexavit.create_model(name).eval()
    block = model.stages[0].blocks[1]
    seen = []
    block.register_forward_hook(lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True)
    model(images(model))
    ((args, kwargs, out),) = seen
    assert isinstance(out, Tensor)
    torch.testing.assert_close(block(args[0], size=kwargs["size"], prefix=kwargs["prefix"]), out)


SHARDED = ("deit_nano", "cvt_nano", "swin_nano", "pvt_v2_nano")


@pytest.mark.parametrize(
    ("version", "names"),
    [(2, SHARDED[1:3]), *(pytest.param(version, SHARDED, marks=pytest.mark.slow) for version in (1, 2))],
)
def test_sharded_blocks_learn_what_one_process_learns(version: int, names: tuple[str, ...], tmp_path: Path) -> None:
    """FSDP over two processes on CPUs, each `Block` wrapped, each process with half of the batch."""
    store = str(tmp_path / "store")
    assert in_processes([(_train_sharded, rank, version, names, store) for rank in range(2)]) == [0, 0]


def _train_sharded(rank: int, version: int, names: tuple[str, ...], store: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for name in names:
        torch.manual_seed(0)
        one = hexavit.create_model(name, num_classes=5, overrides=["stages.*.drop_path=0.0"]).double()
        for module in one.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # its statistics are of each process's own images
        sharded = _sharded(copy.deepcopy(one), version)
        x = images(one, 4).double()
        for model, share in ((one, x), (sharded, x[rank::2])):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(2):
                optimizer.zero_grad()
                loss_of(model(share)).backward()
                optimizer.step()
        if version == 2:
            learned = [p.full_tensor() for p in sharded.parameters()]
        else:
            from torch.distributed.fsdp import FullyShardedDataParallel

            with FullyShardedDataParallel.summon_full_params(sharded):
                learned = [p.clone() for p in sharded.parameters()]
        for theirs, ours in zip(learned, one.parameters(), strict=True):
            torch.testing.assert_close(theirs, ours.detach(), rtol=1e-9, atol=1e-9)
    torch.distributed.destroy_process_group()


def _sharded(model: nn.Module, version: int) -> nn.Module:
    if version == 2:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for block in [m for m in model.modules() if isinstance(m, Block)]:
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    with warnings.catch_warnings(action="ignore"):
        policy = ModuleWrapPolicy({Block})
        device = torch.device("cpu")
        return FullyShardedDataParallel(model, auto_wrap_policy=policy, device_id=device, use_orig_params=True)
