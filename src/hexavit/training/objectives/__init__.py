"""What a model learns from a batch, and how far it is from it."""
