"""Measurement of one case in processes of its own, all contenders in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hexavit.benchmarking import engines, peers
from hexavit.errors import HexavitError
from hexavit.profiling.measure import interleaved, peak_bytes

PRODUCT = 1024
"""Side of the square matrices whose product gives the machine's own rate."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        model: a name.
        size: height and width of the images.
        batch: images in one pass.
        contenders: pairs of library and engine.
        train: whether a training step is measured instead of inference.
        device: of torch: `cpu` or `cuda`.
        dtype: `float32`, `bfloat16` or `float16`: of weights and images.
        channels_last: whether images and weights are in that memory format.
        threads: of the CPU.
        rounds: how often each contender is timed.
    """

    model: str
    size: tuple[int, int]
    batch: int
    contenders: tuple[tuple[str, str], ...]
    train: bool = False
    device: str = "cpu"
    dtype: str = "float32"
    channels_last: bool = False
    threads: int = 1
    rounds: int = 5


@dataclass(frozen=True)
class Measured:
    """One contender of a case.

    Attributes:
        library: whose model.
        engine: that ran it.
        seconds: of each round; empty if it failed.
        peak_bytes: memory that one pass adds to the weights and the input; None where it is not known.
        error: why it could not be measured.
    """

    library: str
    engine: str
    seconds: tuple[float, ...] = ()
    peak_bytes: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Result:
    """A measured case.

    Attributes:
        case: what was measured.
        macs: multiply-adds of one image in hexavit's model.
        product_rate: multiply-adds a second of a square matrix product, measured in the same rounds.
        measured: one per contender, in the order of the case.
    """

    case: Case
    macs: int
    product_rate: float
    measured: tuple[Measured, ...]

    def rate(self, each: Measured) -> float | None:
        """Images per second, the median over the rounds."""
        return self.case.batch / statistics.median(each.seconds) if each.seconds else None

    def share(self, each: Measured) -> float | None:
        """The part of the matrix-product rate that a contender reaches; a training step counts three passes."""
        rate = self.rate(each)
        return None if rate is None else rate * self.macs * (3 if self.case.train else 1) / self.product_rate

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [
            {**asdict(each), "images_per_second": self.rate(each), "share_of_product_rate": self.share(each)}
            for each in self.measured
        ]
        return {"case": asdict(self.case), "macs": self.macs, "product_rate": self.product_rate, "measured": rows}


def measure(case: Case) -> Result:
    """Measure a case: the speed in one process, the memory of each contender in another.

    Memory that earlier models have used is faster than newly allocated memory, so no two cases share a process.

    Raises:
        HexavitError: the process ended without a result.
    """
    found = _in_own_process({"case": asdict(case)})
    measured = []
    for (library, engine), seconds, error in zip(case.contenders, found["seconds"], found["errors"], strict=True):
        peak = None if error else _in_own_process({"case": asdict(case), "peak_of": [library, engine]})["peak"]
        measured.append(Measured(library, engine, tuple(seconds), peak, error))
    return Result(case, found["macs"], found["product_rate"], tuple(measured))


def _in_own_process(job: dict[str, Any]) -> dict[str, Any]:
    env = {**os.environ, "OMP_NUM_THREADS": str(job["case"]["threads"])}
    command = [sys.executable, "-m", "hexavit.benchmarking.measuring"]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, env=env)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise HexavitError(f"{job['case']['model']} could not be measured: {reason}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _ready(case: Case, library: str, engine: str) -> engines.Run:
    torch.manual_seed(0)
    model = peers.build(library, case.model, case.size).to(case.device, engines.DTYPES[case.dtype])
    images = torch.randn(case.batch, 3, *case.size).to(case.device, engines.DTYPES[case.dtype])
    if case.channels_last:
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    if case.train:
        return engines.training(model, images, engine)
    return engines.inference(model, images, engine)


def _speeds(case: Case) -> dict[str, Any]:
    runs: dict[str, engines.Run] = {}
    errors = []
    for library, engine in case.contenders:
        try:
            run = _ready(case, library, engine)
            for _ in range(engines.WARM_UPS.get(engine, 1)):
                run()
        except Exception as error:  # of any library: the others are still measured
            errors.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
        else:
            errors.append("")
            runs[f"{library} {engine}"] = run
    left = torch.randn(PRODUCT, PRODUCT, device=case.device, dtype=engines.DTYPES[case.dtype])

    def product() -> object:
        out = left @ left
        if left.is_cuda:
            torch.cuda.synchronize()
        return out

    seconds = interleaved({**runs, "product": product}, case.rounds, settle=not case.train)
    return {
        "seconds": [seconds.get(f"{library} {engine}", []) for library, engine in case.contenders],
        "errors": errors,
        "product_rate": PRODUCT**3 / statistics.median(seconds["product"]),
        "macs": _macs(case),
    }


def _macs(case: Case) -> int:
    from hexavit.models import resolve
    from hexavit.profiling import profile

    return profile(resolve(case.model, img_size=case.size)).macs


def _peak(case: Case, library: str, engine: str) -> int | None:
    run = _ready(case, library, engine)
    if case.train:
        run()  # gradients and the optimizer's state are held from the first step on
    if case.device == "cuda":
        run()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    if engine == "compile":
        run()  # the compiler's own memory is not the model's
    return peak_bytes(run)


def contenders(name: str, libraries: Sequence[str], chosen: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of library and engine for a model: hexavit on every engine, and the others on those that take any model."""
    return tuple(
        (library, engine)
        for library in (peers.OURS, *peers.peers_of(name, tuple(libraries)))
        for engine in chosen
        if library == peers.OURS or engine not in engines.OPTIMIZED
    )


def _main() -> None:
    job = json.load(sys.stdin)
    given = job["case"]
    given["contenders"] = tuple(tuple(each) for each in given["contenders"])
    case = Case(**{**given, "size": tuple(given["size"])})
    torch.set_num_threads(case.threads)
    print(json.dumps({"peak": _peak(case, *job["peak_of"])} if "peak_of" in job else _speeds(case)))


if __name__ == "__main__":
    _main()
