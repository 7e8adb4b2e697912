"""Twins: variants, checkpoint keys and published weights."""
