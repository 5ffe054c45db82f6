"""Console commands, one file each; only they and `config` use Hydra."""
