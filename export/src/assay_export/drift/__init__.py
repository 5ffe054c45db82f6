"""Find the first layer at which an artifact differs from the model."""
