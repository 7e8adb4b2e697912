"""T2T-ViT: variants, checkpoint keys and published weights."""
