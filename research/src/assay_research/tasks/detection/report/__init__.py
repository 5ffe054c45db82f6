"""The report of a detector's evaluation: confusion, errors, curves, galleries."""
