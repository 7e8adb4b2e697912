"""DeepViT: variants, checkpoint keys and published weights."""
