"""The ``archshift`` command: thin, one file a subcommand, and its command line in ``arguments``."""
