"""ViT-C: variants, checkpoint keys and published weights."""
