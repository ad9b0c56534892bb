# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds and drops objects all the time in several threads, checking what they hold by a hash, as
storm.c does. Answers each line with the rounds so far, and with those that were wrong."""

import hashlib
import json
import os
import sys
import threading

THREADS = 3
count = {"progress": 0, "corrupt": 0}
lock = threading.Lock()


def compute(number):
    """The same work each time, with the same hash."""
    words = {f"{number}-{i}": [str(i) * (i % 37), bytes([i % 256]) * (i % 501)] for i in range(300)}
    for i in range(0, 300, 3):
        del words[f"{number}-{i}"]
    text = "".join(f"{key}{value[0]}" for key, value in sorted(words.items()))
    digest = hashlib.sha256(text.encode())
    for _, blob in words.values():
        digest.update(blob)
    return digest.digest()


def run(expected):
    while True:
        wrong = sum(compute(number) != digest for number, digest in enumerate(expected))
        with lock:
            count["progress"] += 1
            count["corrupt"] += wrong


def main():
    expected = [compute(number) for number in range(8)]
    for _ in range(THREADS):
        threading.Thread(target=run, args=(expected,), daemon=True).start()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for _ in sys.stdin:
        with lock:
            print(json.dumps(count), flush=True)


main()
