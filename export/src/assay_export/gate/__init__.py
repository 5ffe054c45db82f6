"""The parity gate: compare artifacts with the eager model, and report the verdicts."""
