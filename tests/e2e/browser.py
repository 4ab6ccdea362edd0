"""Headless Chromium, driven over the WebDriver protocol."""

import base64
import http.client
import json
import os
import pathlib
import sys

from console import from_disk
from harness import Process, free_port, tool, until

# axe-core, which checks accessibility, from npm; test-all.sh installs it.
AXE = os.environ.get("AXE") or pathlib.Path(__file__).parents[2] / "target/tools/node_modules/axe-core/axe.min.js"
RUN_AXE = """
    const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ['violations']}).then(
        found => done(found.violations.map(it => it.id + ': ' + it.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | '))),
        error => done([String(error)]));
"""


class Browser(Process):
    """Headless Chromium, which opens the pages of `node`. With CONSOLE_FROM_DISK=1 the console is that of the source, not that of the binary."""

    def __init__(self, node, *flags):
        self.node, self.port, self.session, self.url = node, free_port(), "", node.url
        if os.environ.get("CONSOLE_FROM_DISK") == "1":
            self.url = f"http://127.0.0.1:{from_disk.serve(node.port)}"
        super().__init__([tool("chromedriver"), f"--port={self.port}"])
        self.until_listening(self.port)
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, *flags]}
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}
        try:
            self.session = "/" + self.call("POST", "", capabilities)["sessionId"]
        except Exception:
            self.kill_and_show_log()
            raise

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, f"/session{self.session}{path}", data, {"Content-Type": "application/json"})
        value = json.load(connection.getresponse())["value"]
        if isinstance(value, dict) and "stacktrace" in value:
            raise ValueError(f"{value['error']}: {value['message']}")
        return value

    def open(self, path):
        self.call("POST", "/url", {"url": self.url + path})

    def navigate(self, hash):
        """Switches the open console to another view."""
        self.run("location.hash = arguments[0]", hash)

    def run(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def cdp(self, command, **params):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def text(self, selector="body"):
        """The visible text of an element."""
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def wait_for(self, what, script, *args):
        """Waits until the script returns something true, and returns it; raises AssertionError after the timeout."""
        return until(what, lambda: self.run(script, *args))

    def becomes(self, script, *args):
        """Whether the script returns something true before the timeout: the page answers a key or a click a moment later."""
        try:
            return self.wait_for(script, script, *args)
        except AssertionError:
            return False

    def wait_for_text(self, text, selector="body", timeout_s=None):
        """Whether the text becomes visible in the element before the timeout."""
        try:
            return until(f"{selector} says {text}", lambda: text in self.text(selector), **({"timeout_s": timeout_s} if timeout_s else {}))
        except AssertionError:
            return False

    def wait_for_source(self, text):
        """Whether the text appears in the source of the page before the timeout."""
        try:
            return until(f"the page shows {text}", lambda: text in self.call("GET", "/source").replace("<wbr>", "").replace("\u200b", ""))
        except AssertionError:
            return False

    def source_contains(self, text):
        return text in self.call("GET", "/source")

    def click(self, selector):
        self.wait_for(f"there is {selector}", "return document.querySelector(arguments[0]) !== null", selector)

        def is_clicked():
            # In the middle, where the header does not cover it.
            self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
            return self.call("POST", f"/element/{self.element(selector)}/click", {}) is None
        # A view may be rendered again between the two calls, which replaces the element.
        until(f"{selector} is clicked", is_clicked)

    def type(self, selector, text):
        field = self.element(selector)
        self.call("POST", f"/element/{field}/clear", {})
        self.call("POST", f"/element/{field}/value", {"text": text})

    def press(self, *keys):
        """Sends keys to the focused element."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log_in(self, key):
        self.type("#key", key)
        self.click("#login button")

    def element(self, selector):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def new_tab(self):
        handle = self.call("POST", "/window/new", {"type": "tab"})["handle"]
        self.switch(handle)
        return handle

    def switch(self, handle):
        self.call("POST", "/window", {"handle": handle})

    def resize(self, width, height):
        """Sets the size of the viewport: a window of Chromium cannot be as narrow as a phone."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer_dark(self, is_dark):
        """Sets the color scheme that the system prefers."""
        scheme = "dark" if is_dark else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def violations(self):
        """The accessibility rules that the page violates."""
        if not os.path.exists(AXE):
            sys.exit(f"there is no {AXE}")
        with open(AXE, encoding="utf-8") as axe:
            self.run(axe.read())
        return self.call("POST", "/execute/async", {"script": RUN_AXE, "args": []})

    def errors(self):
        """The errors in the browser log since the last call: errors of scripts, and violations of the content security policy."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and entry["source"] != "network"]

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", "/screenshot")))

    def __exit__(self, *error):
        if self.session and self.is_running():
            # Ends the browser, which is a process of its own.
            self.call("DELETE", "")
        super().__exit__(*error)
