"""Find the first layer whose output differs between an artifact and the model."""
