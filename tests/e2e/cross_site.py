#!/usr/bin/env python3
"""Pages of other sites in a real browser: the requests that they make it send change no order, and the replies are not shown to them.

usage: cross_site.py BINARY
"""

import http.server
import sys
import threading

from browser import Browser
from harness import Node, until

# Each one tries to cancel the given order, and reports in its title when it is done.
PAGES = {
    "a form": """<iframe name=f></iframe><form target=f method=post action="{url}/orders/{id}/cancel"></form>
        <script>document.forms[0].submit(); setTimeout(() => document.title = 'done', 2000)</script>""",
    "a form with a body": """<iframe name=f></iframe><form target=f method=post enctype=text/plain
        action="{url}/orders/{id}/cancel"><input name='{{"reason":"' value='"}}'></form>
        <script>document.forms[0].submit(); setTimeout(() => document.title = 'done', 2000)</script>""",
    "fetch": """<script>fetch('{url}/orders/{id}/cancel', {{method: 'POST', mode: 'no-cors'}})
        .finally(() => document.title = 'done')</script>""",
    "fetch of JSON": """<script>fetch('{url}/orders/{id}/cancel', {{method: 'POST', body: '{{}}',
        headers: {{'content-type': 'application/json'}}}}).catch(() => 0).finally(() => document.title = 'done')</script>""",
    "a beacon": """<script>navigator.sendBeacon('{url}/orders/{id}/cancel');
        setTimeout(() => document.title = 'done', 2000)</script>""",
    "gRPC-Web": """<script>fetch('{url}/catga.system.v1.AdminService/DiscardDeadLetters', {{method: 'POST', mode: 'no-cors',
        body: new Uint8Array(5)}}).catch(() => 0).finally(() => document.title = 'done')</script>""",
}
# A page whose own name now resolves to this machine: to the browser the node is same-origin with it.
REBOUND = """
    const done = arguments[arguments.length - 1];
    Promise.all([
        fetch('/orders').then(reply => reply.status),
        fetch('/orders/' + arguments[0] + '/cancel',
            {method: 'POST', headers: {'content-type': 'application/json'}, body: '{}'}).then(reply => reply.status),
        fetch('/catga.system.v1.AdminService/DiscardDeadLetters',
            {method: 'POST', headers: {'content-type': 'application/grpc-web+proto'}, body: new Uint8Array(5)})
            .then(reply => reply.headers.get('grpc-status')),
    ]).then(done, error => done(String(error)));
"""


class Attacker(http.server.BaseHTTPRequestHandler):
    page = ""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page.encode())

    def log_message(self, *_):
        pass


def attack(browser, attacker_port):
    """Everything that another site has brought about."""
    node = browser.node
    status_of = lambda order: node.call("GET", f"/orders/{order}")["status"]
    order = node.call("POST", "/orders", {"customerId": "c", "items": [{"productId": "p", "quantity": 1, "price": "9.95"}]})["orderId"]
    for name, page in PAGES.items():
        Attacker.page = "<title>begun</title>" + page.format(url=node.url, id=order)
        # Another site than 127.0.0.1, to the browser.
        browser.call("POST", "/url", {"url": f"http://localhost:{attacker_port}/"})
        try:
            until("the page is done", lambda: browser.call("GET", "/title") == "done")
        except AssertionError:
            yield f"{name}: the page did not come to its end"
        if status_of(order) != "Pending":
            yield f"{name} of another site has cancelled an order"
            return
    # A page of the attacker's own, loaded before its name was changed, does not have the node's policy.
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Page.setBypassCSP", "params": {"enabled": True}})
    browser.call("POST", "/url", {"url": f"http://rebound.example:{node.port}/health/live"})
    answers = browser.call("POST", "/execute/async", {"script": REBOUND, "args": [order]})
    if answers != [421, 421, "7"]:
        yield f"a page under another name is answered {answers}"
    if status_of(order) != "Pending":
        yield "a page under another name has cancelled an order"
    # The same from a page of the node itself.
    browser.open("/health/live")
    answers = browser.call("POST", "/execute/async", {"script": REBOUND, "args": [order]})
    if answers[:2] != [200, 200] or status_of(order) != "Cancelled":
        yield f"a page of the node itself is answered {answers}"


def main():
    attacker = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=attacker.serve_forever, daemon=True).start()
    with Node(sys.argv[1]).until_ready() as node, Browser(node, "--host-resolver-rules=MAP rebound.example 127.0.0.1") as browser:
        failures = list(attack(browser, attacker.server_port))
    attacker.shutdown()
    print("\n".join(failures) or "pages of other sites change nothing and see nothing")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
