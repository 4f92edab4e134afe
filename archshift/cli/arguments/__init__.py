"""The command line of each subcommand: its options, help and exit codes, quick to load (see cli/main.py)."""
