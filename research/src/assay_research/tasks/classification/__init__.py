"""Classification: one class a picture."""
