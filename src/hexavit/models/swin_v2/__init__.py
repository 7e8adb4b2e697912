"""Swin Transformer V2: variants, checkpoint keys and published weights."""
