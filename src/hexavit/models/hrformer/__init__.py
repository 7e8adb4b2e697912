"""HRFormer: variants, checkpoint keys and published figures."""
