"""TCP connections of clients: what they may send and hold, and for how long."""
