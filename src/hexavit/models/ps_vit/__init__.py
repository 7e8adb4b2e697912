"""PS-ViT: variants, checkpoint keys and published weights."""
