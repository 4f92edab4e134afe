"""The ``archshift`` command: thin, one file a subcommand."""
