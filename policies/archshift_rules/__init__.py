"""The rules, one per file. A separate package, so that its names never collide with the program's."""
