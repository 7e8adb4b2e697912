"""MViT: variants, checkpoint keys and published weights."""
