"""From an image file to the model's canvas; training reads images the same way."""
