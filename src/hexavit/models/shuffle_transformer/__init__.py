"""Shuffle Transformer: variants and checkpoint keys."""
