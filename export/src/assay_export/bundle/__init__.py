"""Parts of a bundle other than its artifacts (manifest, SBOM), and publishing it under its name."""
