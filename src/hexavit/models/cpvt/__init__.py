"""CPVT: variants, checkpoint keys and published weights."""
