"""The workers as the HTTP processes reach them: a Unix socket each."""
