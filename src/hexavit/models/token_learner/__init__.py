"""TokenLearner: variants and checkpoint keys."""
