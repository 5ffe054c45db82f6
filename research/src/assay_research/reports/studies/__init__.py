"""Published results of the project: records of runs, result tables, learning curves and the table of models."""
