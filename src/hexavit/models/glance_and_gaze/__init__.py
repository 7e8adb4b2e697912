"""Glance-and-Gaze (from the paper alone): variants; the authors published no code and no checkpoints."""
