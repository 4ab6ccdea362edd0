#!/usr/bin/env python3
"""The dashboard and Swagger UI in a real browser: their live content, and that no content of an order becomes markup.

usage: dashboard.py BINARY
"""

import http.client
import json
import shutil
import subprocess
import sys
import time
import urllib.request

PORT = 5077
DRIVER_PORT = 5078
URL = f"http://127.0.0.1:{PORT}"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def post(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=5))


def until_ready():
    for _ in range(100):
        try:
            urllib.request.urlopen(URL + "/health/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the server is not ready after 5 s")


class Browser:
    """Headless Chromium, driven over the WebDriver protocol."""

    def __init__(self, *flags):
        driver = shutil.which("chromedriver") or sys.exit("there is no chromedriver on this machine")
        self.driver = subprocess.Popen([driver, f"--port={DRIVER_PORT}"], stdout=subprocess.DEVNULL)
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options = {"args": ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, *flags]}
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self.session = ""
        for _ in range(100):
            try:
                self.session = "/" + self.call("POST", "", capabilities)["sessionId"]
                return
            except ConnectionError:
                time.sleep(0.1)
        sys.exit("chromedriver does not answer")

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", DRIVER_PORT, timeout=60)
        connection.request(method, f"/session{self.session}{path}", data, {"Content-Type": "application/json"})
        return json.load(connection.getresponse())["value"]

    def open(self, path):
        self.call("POST", "/url", {"url": URL + path})

    def shows(self, text):
        """Whether the text appears on the page within some seconds."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if text in self.call("GET", "/source").replace("<wbr>", "").replace("\u200b", ""):
                return True
            time.sleep(0.2)
        return False

    def close(self):
        if self.session:
            self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


def look(browser):
    """All problems found."""
    items = [{"productId": "p", "quantity": 2, "price": "9.95"}]
    order = post("/orders", {"customerId": HOSTILE, "items": items})["orderId"]
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
    post(f"/orders/{order}/pay", {"paymentMethod": "card"})
    if not browser.shows("OrderPaid"):
        yield "the payment does not come onto the open dashboard"
    if browser.call("GET", "/title") != "Catga OrderSystem":
        yield "text of an order has run as script"
    browser.open("/swagger")
    if not browser.shows("/orders/{id}/pay"):
        yield "Swagger UI does not show a route"


def main():
    server = subprocess.Popen([sys.argv[1], "--port", str(PORT)], stderr=subprocess.DEVNULL)
    browser = None
    try:
        until_ready()
        browser = Browser()
        failures = list(look(browser))
    finally:
        if browser:
            browser.close()
        server.terminate()
        server.wait()
    print("\n".join(failures) or "the dashboard and Swagger UI show what they should")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
