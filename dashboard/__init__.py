"""The dashboard: pages over the running service and the stores."""

import lstm_ts  # noqa: F401  first of all: it has Ctrl-C end a command that still imports without a traceback
