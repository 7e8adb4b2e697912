"""Settings chosen automatically from the data, the machine and the initial weights."""
