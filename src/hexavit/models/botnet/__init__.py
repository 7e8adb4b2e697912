"""BoTNet: variants, checkpoint keys and published weights."""
