"""The views of the page: widgets and their events, one file for each view. What they show is computed elsewhere."""
