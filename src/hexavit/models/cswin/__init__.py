"""CSWin Transformer: variants, checkpoint keys and published weights."""
