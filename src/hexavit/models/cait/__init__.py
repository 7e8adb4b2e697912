"""CaiT: variants, checkpoint keys and published weights."""
