"""The PyTorch module of an architecture: composition of parts, initialisation and the forward pass."""
