"""Configurations: the files of conf/, arguments before Hydra takes them, checks of what it composes, and its parts."""
