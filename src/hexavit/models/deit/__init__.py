"""DeiT: variants, checkpoint keys and published weights."""
