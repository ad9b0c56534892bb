# SPDX-License-Identifier: GPL-2.0-or-later
"""An ordinary Python program, for scripts/bench: parses, sorts, formats and builds objects.

Answers each line "run MS" with the cost of one round of work: µs by the clock, and µs of processor
time."""

import json
import os
import re
import sys
import time

ORDERS = json.dumps([{"id": number, "customer": f"customer {number % 7}", "price": number * 1.25,
                      "tags": ["a", "b" * number]} for number in range(12)])
WORD = re.compile(r"[a-z]+")


class Order:
    """One that is not kept for long."""

    def __init__(self, fields):
        self.name = f"{fields['customer']}/{fields['id']}"
        self.price = fields["price"]
        self.words = WORD.findall(fields["customer"])


def work():
    orders = sorted((Order(fields) for fields in json.loads(ORDERS)),
                    key=lambda order: (order.price, order.name))
    totals = {}
    for order in orders:
        totals[order.words[0]] = totals.get(order.words[0], 0) + order.price
    lines = [f"{order.name:>20} {order.price:10.2f}" for order in orders]
    return len("\n".join(lines).upper().split()) + len(totals)


def main():
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for question in sys.stdin:
        seconds = int(question.split()[1]) / 1000
        start, cpu_start, rounds = time.monotonic(), time.process_time(), 0
        while time.monotonic() - start < seconds:
            work()
            rounds += 1
        print(json.dumps({"us": (time.monotonic() - start) * 1e6 / rounds,
                          "cpu_us": (time.process_time() - cpu_start) * 1e6 / rounds}), flush=True)


if __name__ == "__main__":
    main()
