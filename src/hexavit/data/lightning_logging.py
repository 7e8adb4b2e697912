"""Lightning without its greetings, and without the traces it leaves in the process."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning

from hexavit.errors import DataError


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Within the block Lightning says nothing that is not an error; after it the process is as it was.

    Raises:
        KeyboardInterrupt: where Lightning, on an interrupt, would leave the whole program.
        DataError: that of a worker, without the traceback that torch puts around it.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels, interrupt = [logger.level for logger in loggers], signal.getsignal(signal.SIGINT)
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)  # advice on workers and logging intervals
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # Lightning 2.6 on torch 2.15
            warnings.filterwarnings("ignore", ".*Grad strides do not match bucket view strides.*", UserWarning)
            # Python 3.12 warns of forking where threads exist; torch's workers are made for it.
            warnings.filterwarnings("ignore", ".*use of fork.*", DeprecationWarning)
            yield
    except SystemExit:
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from None
    except DataError as error:
        raise DataError(str(error).strip().rpartition("DataError: ")[2]) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
