"""Servers in processes of their own without the seconds that imports take: forked from one that has imported all.

Each request on the socket at standard input is a command line, with the server's standard input and output; the answer
is its process id. At the end of the socket this process ends.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys

from .__main__ import parse_arguments, serve

LONGEST = 65_536  # bytes of a command line


def fork_until_closed(requests: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody here waits for a server
    while True:
        request, pipes, _, _ = socket.recv_fds(requests, LONGEST, 2)
        if not request:
            return
        if (pid := os.fork()) == 0:
            requests.close()
            become_server(json.loads(request), *pipes)
        for pipe in pipes:
            os.close(pipe)
        requests.sendall(f"{pid}\n".encode())


def become_server(arguments: list[str], stdin: int, stdout: int) -> None:
    """Never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pipe, standard in ((stdin, 0), (stdout, 1)):
            os.dup2(pipe, standard)
            os.close(pipe)
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        sys.argv[1:] = arguments
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        asyncio.run(serve(parse_arguments()))
        code = 0
    except SystemExit as end:
        print(end.code, file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    fork_until_closed(socket.socket(fileno=os.dup(0)))
