"""P2T: variants, checkpoint keys and published weights."""
