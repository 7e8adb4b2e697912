"""Training objectives: losses and their targets."""
