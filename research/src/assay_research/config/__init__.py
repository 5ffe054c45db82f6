"""Command lines, configs, and objects built from configs."""
