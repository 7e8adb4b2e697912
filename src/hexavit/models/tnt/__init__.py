"""TNT: variants, checkpoint keys and published weights."""
