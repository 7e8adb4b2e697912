"""Glance-and-Gaze has no layout but hexavit's own: its authors published neither code nor checkpoints."""

from __future__ import annotations

from hexavit.models.layouts import Layout

LAYOUTS: tuple[Layout, ...] = ()
