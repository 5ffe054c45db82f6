"""From a picture file to the model's canvas; training reads pictures the same way."""
