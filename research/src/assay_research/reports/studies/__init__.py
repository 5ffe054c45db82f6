"""The project's results: records, tables, curves, and the table of models."""
