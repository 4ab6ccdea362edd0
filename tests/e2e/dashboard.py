#!/usr/bin/env python3
"""The dashboard and Swagger UI in a real browser: their live content, and that no content of an order becomes markup.

usage: dashboard.py BINARY
"""

import http.client
import json
import sys

from harness import Node, Process, free_port, tool, until

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class Browser(Process):
    """Headless Chromium, driven over the WebDriver protocol, and looking at the pages of `node`."""

    def __init__(self, node, *flags):
        self.node, self.port, self.session = node, free_port(), ""
        super().__init__([tool("chromedriver"), f"--port={self.port}"])
        self.until_listening(self.port)
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, *flags]}
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        try:
            self.session = "/" + self.call("POST", "", capabilities)["sessionId"]
        except Exception:
            self.give_up()
            raise

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, f"/session{self.session}{path}", data, {"Content-Type": "application/json"})
        return json.load(connection.getresponse())["value"]

    def open(self, path):
        self.call("POST", "/url", {"url": self.node.url + path})

    def shows(self, text):
        """Whether the text comes onto the page in time."""
        try:
            return until(f"the page shows {text}", lambda: text in self.call("GET", "/source").replace("<wbr>", "").replace("\u200b", ""))
        except AssertionError:
            return False

    def __exit__(self, *error):
        if self.session and self.is_running():
            # The browser is a process of its own, which the driver ends.
            self.call("DELETE", "")
        super().__exit__(*error)


def look(browser):
    """All problems found."""
    items = [{"productId": "p", "quantity": 2, "price": "9.95"}]
    order = browser.node.call("POST", "/orders", {"customerId": HOSTILE, "items": items})["orderId"]
    browser.open("/dashboard")
    for what, text in [
        ("the order", order),
        ("its total with all decimals", "19.90 USD"),
        ("the node", "durability: none"),
        ("a health check", "projections"),
        ("the customer as text", "&lt;img src=x onerror="),
    ]:
        if not browser.shows(text):
            yield f"{what} is not on the dashboard"
    browser.node.call("POST", f"/orders/{order}/pay", {"paymentMethod": "card"})
    if not browser.shows("OrderPaid"):
        yield "the payment does not come onto the open dashboard"
    if browser.call("GET", "/title") != "Catga OrderSystem":
        yield "text of an order has run as script"
    browser.open("/swagger")
    if not browser.shows("/orders/{id}/pay"):
        yield "Swagger UI does not show a route"


def main():
    with Node(sys.argv[1]).until_ready() as node, Browser(node) as browser:
        failures = list(look(browser))
    print("\n".join(failures) or "the dashboard and Swagger UI show what they should")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
