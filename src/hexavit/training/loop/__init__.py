"""The training loop and its helpers: optimizer, schedule, checkpoints, signals, processes, progress."""
