# SPDX-License-Identifier: GPL-2.0-or-later
"""Headless Chromium, driven through chromedriver (the WebDriver protocol) as a person would drive it."""

import base64
import json
import os
import urllib.error
import urllib.request

import harness
from harness import Process, free_port, wait_until

# No sandbox, since the tests run as root; nothing but the files that the tests made.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-dev-shm-usage", "--window-size=1300,900"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Escape": "\ue00c", "Enter": "\ue007", "Backspace": "\ue003", "ArrowUp": "\ue013",
        "ArrowDown": "\ue015", "ArrowLeft": "\ue012", "ArrowRight": "\ue014"}


class Browser:
    def __init__(self, profile):
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.driver = Process(["chromedriver", f"--port={port}"])
        try:
            self._begin(profile)
        except BaseException:
            self.driver.stop()
            raise

    def _begin(self, profile):
        wait_until(self._is_ready, "chromedriver answers")
        options = {"binary": "/usr/bin/chromium", "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options,
                                  "goog:loggingPrefs": {"browser": "ALL"}}}
        self.base += "/session/" + self._post("/session", capabilities=wanted)["sessionId"]

    def _send(self, request):
        with urllib.request.urlopen(request, timeout=2 * harness.LIMIT) as answer:
            return json.load(answer)["value"]

    def _post(self, path, **body):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            return self._send(request)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()[:500]}") from None

    def _is_ready(self):
        try:
            return self._send(self.base + "/status")["ready"]
        except (urllib.error.URLError, ConnectionError):
            return False

    def close(self):
        try:
            self._send(urllib.request.Request(self.base, method="DELETE"))
        finally:
            self.driver.stop()

    def open(self, path):
        self._post("/url", url=f"file://{os.path.abspath(path)}")

    def run(self, script, *arguments):
        """What the JavaScript function body returns."""
        return self._post("/execute/sync", script=script, args=list(arguments))

    def find(self, selector):
        return self._post("/element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self._post(f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.click(selector)
        self.press(*text)

    def point_at(self, element):
        """Moves the pointer there; `element` as run() returns one."""
        self._act("pointer", [{"type": "pointerMove", "origin": element, "x": 0, "y": 0}])

    def click_at(self, element):
        self._act("pointer", [{"type": "pointerMove", "origin": element, "x": 0, "y": 0},
                              {"type": "pointerDown", "button": 0},
                              {"type": "pointerUp", "button": 0}])

    def press(self, *names):
        """Keys by name or character, to whatever has the focus."""
        self._act("key", [{"type": kind, "value": KEYS.get(name, name)}
                          for name in names for kind in ("keyDown", "keyUp")])

    def _act(self, kind, actions):
        self._post("/actions", actions=[{"type": kind, "id": kind, "actions": actions}])

    def complaints(self):
        """What the page made the browser complain about: errors of scripts, refused requests."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._send(self.base + "/screenshot")))
