"""MViTv2: variants, checkpoint keys and published weights."""
