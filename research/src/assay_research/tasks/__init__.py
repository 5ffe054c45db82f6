"""Tasks, one folder each: their trainers, metrics and reports."""
