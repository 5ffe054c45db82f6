"""Model zoo: plain modules and builder functions, each with a YAML file in `conf/model`."""
