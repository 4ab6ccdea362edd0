#!/usr/bin/env python3
"""Takes the pictures of docs/images: every view of the console in light, dark and on a phone, of a cluster of three nodes on Redis with a load.

usage: pictures.py BINARY [--folder FOLDER] [--only VIEW ...]

It takes four minutes, since the charts show the last five. With CONSOLE_FROM_DISK=1 the console is that of the source.
"""

import argparse
import base64
import contextlib
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from browser import Browser  # noqa: E402
from console import operations  # noqa: E402
from console.craft import DESKTOP, ESCAPE, PHONE  # noqa: E402
from dashboard import with_keys  # noqa: E402
from harness import Node, Redis, until  # noqa: E402

IMAGES = pathlib.Path(__file__).parents[3] / "docs/images"
LOOKS = [("light", DESKTOP, False), ("dark", DESKTOP, True), ("phone", PHONE, False)]
QUALITY = 75

FIRST_ORDERS = 1200
LOAD_S = 150
CUSTOMERS = ["acme-gmbh", "contoso", "globex", "initech", "müller-und-söhne", "wayne-enterprises", "hooli", "vandelay-imports", "ødegård-fisk", "O'Brien & Sons"]
PRODUCTS = [("kb-104", "Mechanical keyboard", 89.9), ("mon-27", "27-inch monitor", 329), ("ms-1", "Mouse", 24.95), ("usb-c-2m", "USB-C cable, 2 m", 12.5),
            ("dock-9", "Docking station", 189), ("chair-x", "Office chair, black", 449), ("lamp-3", "Desk lamp", 59), ("paper-a4", "Paper, A4, 500 sheets", 6.49)]
REASONS = ["the warehouse is closed until Monday", "connection refused: http://billing.internal:8080/invoices", "no answer within 30 s"]


class Shop:
    """Clients that place, pay, ship, deliver and cancel orders."""

    def __init__(self, node):
        self.node, self.random, self.orders = node, random.Random(1), []

    def call(self, path, body):
        actor = self.random.choice(["anna", "ben", "shop-frontend"])
        return self.node.call("POST", path, body, {"X-Actor": actor, "Idempotency-Key": f"{self.random.randrange(1 << 64):016x}"})

    def place(self, products=None):
        chosen = products or self.random.sample(PRODUCTS, self.random.choice([1, 1, 2, 3]))
        items = [{"productId": code, "name": name, "quantity": self.random.choice([1, 1, 2, 5]), "price": f"{price:.2f}"} for code, name, price in chosen]
        order = {"customerId": self.random.choice(CUSTOMERS), "currency": self.random.choice(["USD", "USD", "EUR", "GBP"]), "items": items,
                 "shippingAddress": self.random.choice(["1 Main Street, Springfield", "Musterweg 12, 80331 München", "22 Rue de la Paix, 75002 Paris"])}
        order_id = self.call("/orders", order)["orderId"]
        self.orders.append((order_id, "Pending"))
        return order_id

    def pay(self, order):
        self.call(f"/orders/{order}/pay", {"paymentMethod": self.random.choice(["card", "invoice"]), "paymentReference": f"pi_{self.random.randrange(10**9):09}"})

    def ship(self, order):
        self.call(f"/orders/{order}/ship", {"trackingNumber": f"1Z{self.random.randrange(10**14):014}", "carrier": self.random.choice(["UPS", "DHL", "FedEx"])})

    def deliver(self, order):
        self.call(f"/orders/{order}/deliver", {})

    def advance(self):
        """Moves one of the newest orders on."""
        index = self.random.randrange(max(0, len(self.orders) - 60), len(self.orders))
        order, status = self.orders[index]
        if status == "Pending" and self.random.random() < 0.15:
            self.call(f"/orders/{order}/cancel", {"reason": "changed their mind"})
            self.orders[index] = order, "Cancelled"
        elif status in ("Pending", "Paid", "Shipped"):
            step, after = {"Pending": (self.pay, "Paid"), "Paid": (self.ship, "Shipped"), "Shipped": (self.deliver, "Delivered")}[status]
            step(order)
            self.orders[index] = order, after
        elif self.random.random() < 0.1:
            # Refused, for the chart of refusals.
            self.node.status_of("POST", f"/orders/{order}/cancel", {})

    def run(self, seconds):
        """A load that rises and falls, and is low at the end, so that the list has orders of several minutes."""
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            self.place()
            for _ in range(3):
                self.advance()
            wave = 0.06 + 0.05 * abs((passed % 50) - 25) / 25
            time.sleep(wave if passed < seconds - 40 else 2.5)


class Pictures:
    def __init__(self, folder, only):
        self.folder, self.only = folder, only

    def wants(self, *names):
        return not self.only or any(name in self.only for name in names)

    def take(self, browser, name, prepare=lambda: None):
        if not self.wants(name):
            return
        for look, size, is_dark in LOOKS:
            browser.resize(*size)
            browser.prefer_dark(is_dark)
            prepare()
            browser.run("document.getAnimations().forEach(it => it.finish()); document.activeElement?.matches('dialog *') || document.activeElement?.blur()")
            shot = browser.cdp("Page.captureScreenshot", format="webp", quality=QUALITY, optimizeForSpeed=False)
            (self.folder / f"console-{name}-{look}.webp").write_bytes(base64.b64decode(shot["data"]))
        print(name, flush=True)


def open_console(node):
    browser = Browser(node)
    browser.cdp("Emulation.setScrollbarsHidden", hidden=True)
    browser.resize(*DESKTOP)
    browser.open("/dashboard")
    return browser


def take_orders(browser, shop, pictures):
    order = shop.place([PRODUCTS[0], PRODUCTS[1], PRODUCTS[6]])
    shop.pay(order)
    shop.ship(order)
    pending = shop.place([PRODUCTS[4], PRODUCTS[2]])
    browser.navigate("#/orders")
    browser.wait_for_text(pending, "#orders")
    pictures.take(browser, "orders")
    browser.navigate(f"#/orders/{order}")
    browser.wait_for_text("Shipped", "h1")
    pictures.take(browser, "order")
    browser.navigate(f"#/orders/{order}?revision=2&events=full")
    browser.wait_for_text("as it was at revision 2", "#past")
    pictures.take(browser, "past")
    browser.navigate(f"#/orders/{pending}")
    browser.click("[data-action=pay]")
    pictures.take(browser, "dialog")
    browser.press(ESCAPE)
    browser.navigate("#/new")
    browser.wait_for("the form is there", "return document.querySelector('#items input') !== null")
    for name, value in [("customerId", "contoso"), ("shippingAddress", "1 Main Street, Springfield"), ("items[0].productId", "mon-27"),
                        ("items[0].name", "27-inch monitor"), ("items[0].quantity", "12"), ("items[0].price", "329.999")]:
        browser.type(f"input[name='{name}']", value)
    browser.click(".form button[type=submit]")
    browser.wait_for_text("Refused", ".form .refusal")
    pictures.take(browser, "new")


def take_cluster(binary, pictures):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(stack.enter_context(tempfile.TemporaryDirectory())))
        flags = ["--cluster", "--persistence", "redis", "--transport", "redis", "--redis", f"127.0.0.1:{redis.port}"]
        first, node, third = [stack.enter_context(Node(binary, *flags).until_ready()) for _ in range(3)]
        until("the first node handles events", lambda: "handled" in first.call("GET", "/health")["checks"]["subscriptions"]["detail"])
        shop = Shop(node)
        while len(shop.orders) < FIRST_ORDERS:
            shop.place()
            for _ in range(3):
                shop.advance()
        for index in range(7):
            operations.REASON = REASONS[index % len(REASONS)]
            operations.dead_letter(node, redis, CUSTOMERS[index])
        browser = stack.enter_context(open_console(node))
        browser.navigate("#/operations")
        load = threading.Thread(target=shop.run, args=(LOAD_S,))
        load.start()
        # The roles of a node that ends are taken over.
        first.stop()
        until("a role is taken over", lambda: node.call("GET", "/cluster")["takeovers"])
        load.join()
        handler = next(one for one in (node, third) if "dead letters" in one.call("GET", "/health")["checks"]["subscriptions"]["detail"])
        if handler is not node:
            # Only the node that runs the handlers knows the number of dead letters.
            third.stop()
        browser.wait_for_text("7 dead letters", "main")
        pictures.take(browser, "operations")
        pictures.take(browser, "nodes", lambda: browser.run("scrollTo(0, document.documentElement.scrollHeight)"))
        browser.navigate("#/dead-letters")
        browser.wait_for_text(REASONS[0], "main")
        browser.run("[...document.querySelectorAll('[data-row] input')].slice(0, 2).forEach(it => it.click())")
        pictures.take(browser, "dead-letters")
        browser.navigate("#/server")
        browser.wait_for_text("--cluster", "main")
        pictures.take(browser, "server")
        take_orders(browser, shop, pictures)
        browser.navigate("#/orders")
        browser.wait_for("the orders are there", "return document.querySelectorAll('#orders tr').length > 1")
        node.kill()
        browser.wait_for_text("The server does not answer", "#unreachable")
        pictures.take(browser, "unreachable")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--folder", type=pathlib.Path, default=IMAGES)
    parser.add_argument("--only", nargs="+", help="only these views")
    options = parser.parse_args()
    pictures = Pictures(options.folder, options.only)
    if pictures.wants("empty"):
        with Node(options.binary).until_ready() as node, open_console(node) as browser:
            browser.wait_for_text("There are no orders yet", "main")
            pictures.take(browser, "empty")
    if pictures.wants("login"):
        with tempfile.TemporaryDirectory() as folder:
            *_, identities = with_keys(options.binary, folder)
            with Node(options.binary, "--identities", identities).until_ready() as node, open_console(node) as browser:
                browser.wait_for_text("Log in to see this", "main")
                pictures.take(browser, "login")
    if pictures.wants("orders", "order", "past", "dialog", "new", "operations", "nodes", "dead-letters", "server", "unreachable"):
        take_cluster(options.binary, pictures)


if __name__ == "__main__":
    main()
