"""The graphs that leave, where they are not the trained module itself."""
