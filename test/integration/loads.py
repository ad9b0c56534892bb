# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that put a server under load, and check what it answers."""

import socket
import threading
import urllib.request

from harness import LIMIT, wait_until


class Load:
    """Repeats one exchange in a thread of its own; counts right and wrong answers."""

    def __init__(self, port, exchange):
        self.right = self.wrong = 0
        self.failure = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port, exchange), daemon=True)
        self._thread.start()

    def _run(self, port, exchange):
        number = 0
        while not self._stopping.is_set():
            number += 1
            try:
                if exchange(port, number):
                    self.right += 1
                else:
                    self.wrong += 1
            except OSError as failure:
                self.failure = failure
                self.wrong += 1

    def assert_served(self, more=20):
        """So many more right answers, and never a wrong one."""
        before = self.right
        wait_until(lambda: self.right >= before + more or self.wrong, "more answers")
        assert self.wrong == 0, self.failure

    def stop(self):
        self._stopping.set()
        self._thread.join(LIMIT)


def talk(port, request, size):
    """Sends a request on a connection of its own; the first `size` bytes of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.sendall(request)
        answer = b""
        while len(answer) < size:
            chunk = connection.recv(size - len(answer))
            if not chunk:
                break
            answer += chunk
        return answer


def redis_exchange(port, number):
    value = b"%08d" % number * (1 + number % 20)
    request = b"SET check %b\r\nGET check\r\nDEL check\r\n" % value
    expected = b"+OK\r\n$%d\r\n%b\r\n:1\r\n" % (len(value), value)
    return talk(port, request, len(expected)) == expected


def redis_script_exchange(port, number):
    """A script that redis has not seen before, and keeps for ever."""
    body = b"return %d" % number
    request = b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(body), body)
    expected = b":%d\r\n" % number
    return talk(port, request, len(expected)) == expected


def memcached_exchange(port, number):
    """The keys are this client's own: another one's values would be wrong answers."""
    key = b"%d-%d" % (threading.get_ident(), number % 50)
    value = b"%08d" % number * (1 + number % 20)
    request = b"set %b 0 60 %d\r\n%b\r\nget %b\r\n" % (key, len(value), value, key)
    expected = b"STORED\r\nVALUE %b 0 %d\r\n%b\r\nEND\r\n" % (key, len(value), value)
    return talk(port, request, len(expected)) == expected and \
        talk(port, b"stats\r\n", 5) == b"STAT "


def http_exchange(port, number):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{number}", timeout=LIMIT) as answer:
        return answer.status == 200 and answer.read() == b"content\n"
