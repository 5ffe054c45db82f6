"""The console commands, one file each; with `config`, all that knows Hydra."""
