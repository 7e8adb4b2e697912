"""ELSA-Swin: variants, checkpoint keys and published figures."""
