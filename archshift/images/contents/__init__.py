"""The content of an image: its layers, its files, and the programs that it starts."""
