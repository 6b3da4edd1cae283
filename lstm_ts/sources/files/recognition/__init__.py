"""The layout of a text file, recognised by its header and its first rows."""
