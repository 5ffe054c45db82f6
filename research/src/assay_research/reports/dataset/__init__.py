"""Report on a data set: statistics, findings, figures and one HTML page."""
