"""PVT v2: variants, checkpoint keys and published weights."""
