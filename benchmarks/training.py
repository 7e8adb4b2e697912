"""Compare a training step with timm's and transformers' models by `hexavit benchmark --train`: float32, AdamW.

    python benchmarks/training.py [--models NAME ...] [--against timm|transformers] [OPTION ...]

Goals: CvT-13 at least 1.2 times as fast as transformers', no model slower than the other library's, none with more
memory.
"""

from __future__ import annotations

from peers import PEERS, compare

if __name__ == "__main__":
    raise SystemExit(compare(__doc__, PEERS, ["--train", "--threads", "2"]))
