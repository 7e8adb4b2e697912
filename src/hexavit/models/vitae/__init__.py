"""ViTAE: variants, checkpoint keys and published figures."""
