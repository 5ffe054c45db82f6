"""A bundle: its folder, its manifest, and how two answers are compared."""
