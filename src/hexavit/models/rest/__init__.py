"""ResT: variants, checkpoint keys and published weights."""
