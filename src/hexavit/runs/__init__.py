"""Run folders: layout, ownership, comparison and curves."""
