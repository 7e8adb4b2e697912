"""Compare the peak memory of pyramids at 1024 x 1024 with timm's by `hexavit benchmark`, one image at a time.

python benchmarks/pyramids.py [--models NAME ...] [OPTION ...]
"""

from __future__ import annotations

from peers import PYRAMIDS, compare

OPTIONS = ["--engines", "torch,optimize,save-memory", "--size", "1024", "--batch-size", "1"]
OPTIONS += ["--rounds", "3", "--threads", "2"]

if __name__ == "__main__":
    raise SystemExit(compare(__doc__, {"timm": PYRAMIDS}, OPTIONS))
