"""LocalViT: variants, checkpoint keys and published weights."""
