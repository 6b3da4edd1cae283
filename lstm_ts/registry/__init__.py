"""Versions of models: what is registered, which is champion, and who made it so and why."""
