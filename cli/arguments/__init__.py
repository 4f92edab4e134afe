"""The command line of each subcommand: its options, help and exit codes, quick to load (cli/main.py)."""
