"""What a training is told to be, where nobody says."""
