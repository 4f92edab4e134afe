"""Images and binaries for both architectures: for programs of users, not for the migration."""
