"""The zoo: plain modules and builder functions, one YAML each in `conf/model`."""
