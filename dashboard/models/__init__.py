"""The models page: versions, and who may move the aliases."""
