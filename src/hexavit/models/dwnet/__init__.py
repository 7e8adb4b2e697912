"""DWNet: variants, checkpoint keys and published weights."""
