"""The command lines of the subcommands, one file each: quick to load, whatever the command itself needs."""
