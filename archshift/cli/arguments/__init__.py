"""The command line of each subcommand: options, help and exit codes. Loads fast (see cli/main.py)."""
