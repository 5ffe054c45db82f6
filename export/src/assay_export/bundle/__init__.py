"""What a bundle holds beside its graphs, and how it appears under its name."""
