"""The steps of a training, and what keeps them from being lost."""
