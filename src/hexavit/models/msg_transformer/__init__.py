"""MSG-Transformer: variants and checkpoint keys."""
