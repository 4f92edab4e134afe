"""The ``archshift`` command: thin, one file a subcommand in ``commands``, its options in ``arguments``."""
