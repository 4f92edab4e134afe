"""The ``archshift`` command: thin, one file a subcommand; its command line is its namesake in ``arguments``."""
