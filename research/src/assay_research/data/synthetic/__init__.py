"""Draw microscope pictures of diatoms, for tests and demonstrations."""
