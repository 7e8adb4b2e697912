"""CeiT: variants, checkpoint keys and published weights."""
