"""Reports for people: figures, tables and pages about runs, studies and data sets."""
