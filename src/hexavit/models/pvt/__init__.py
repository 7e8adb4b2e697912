"""PVT: variants, checkpoint keys and published weights."""
