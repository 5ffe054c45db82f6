"""The report of a data set: statistics, findings, figures and one HTML page."""
