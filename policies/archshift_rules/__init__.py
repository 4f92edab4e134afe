"""The rules, one a file. A package of its own, so that no name of it meets one of the program's."""
