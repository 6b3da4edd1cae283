"""The Python API, `import lstm_ts`."""
