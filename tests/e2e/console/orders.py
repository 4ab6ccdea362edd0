"""The work of a support agent: placing, finding and changing orders, and time travel."""

import socket
import threading
import time

from harness import until

ITEMS = [{"productId": "p", "quantity": 2, "price": "9.95"}]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
# The number of orders for the search test, and the time limit for placing them.
MANY = 200_000
SEEDING_S = 300
BATCH = 200
# The page updates at most every 0.7 s.
A_REACTION_S = 1.5


def place(node, customer="c", **more):
    return node.call("POST", "/orders", {"customerId": customer, "items": ITEMS, **more})["orderId"]


def has_refusal(browser, text):
    return browser.wait_for_text(text, "dialog .refusal")


def perform_action(browser, action, **fields):
    browser.click(f"[data-action={action}]")
    for name, value in fields.items():
        browser.type(f"dialog input[name={name}]", value)
    browser.click("dialog button[type=submit]")


def life_of_an_order(browser):
    """An order from the form to its delivery, with a cancellation that conflicts with a change by another client."""
    node = browser.node
    browser.open("/dashboard#/new")
    browser.wait_for("the form is there", "return document.querySelector('#items input') !== null")
    browser.type("input[name=customerId]", "agent's customer")
    browser.type("input[name='items[0].productId']", "keyboard")
    browser.type("input[name='items[0].quantity']", "1000")
    browser.type("input[name='items[0].price']", "1.999")
    browser.click(".form button[type=submit]")
    if not browser.wait_for_text("Refused: ", ".form .refusal"):
        yield "a price with too many decimals is not refused with an explanation"
    if not browser.becomes("return document.querySelector(\"[name='items[0].price']\").getAttribute('aria-invalid') === 'true'"):
        yield "the invalid field is not marked"
    if not browser.wait_for_text("Must have at most 2 decimals", "[name='items[0].price'] + .field-error"):
        yield "the invalid field does not say what is wrong"
    if not browser.wait_for_text("1,999.000 USD", ".form .total strong"):
        yield f"the total of a new order is {browser.text('.form .total strong')}"
    browser.type("input[name='items[0].price']", "9.95")
    browser.click(".form button[type=submit]")
    if not browser.wait_for_text("Pending", "h1"):
        yield "the new order is not shown"
        return
    order = browser.run("return location.hash.split('/')[2]")
    if not browser.wait_for_text("9,950.00 USD", "main"):
        yield "the total is not grouped, or lacks its decimals"
    if not browser.wait_for_text("1 item, 9,950.00 USD", ".timeline"):
        yield "the compact event does not say what was ordered"
    actions = "[...document.querySelectorAll('[data-action]')].map(it => it.dataset.action).join()"
    if not browser.becomes(f"return {actions} === 'pay,cancel'"):
        yield f"a pending order has the actions {browser.run(f'return {actions}')}"
    perform_action(browser, "pay", paymentMethod="invoice")
    if not browser.wait_for_text("Paid", "h1 .badge"):
        yield "the payment is not shown"
    browser.wait_for("its actions", "return document.querySelector('[data-action=ship]') !== null")
    # The order is shipped by somebody else while the agent is asked to confirm.
    browser.click("[data-action=cancel]")
    node.call("POST", f"/orders/{order}/ship", {"trackingNumber": "1Z", "carrier": "UPS"})
    browser.click("dialog button[type=submit]")
    if not has_refusal(browser, "Somebody else has changed this order"):
        yield "a refused cancellation is not explained"
    browser.click("dialog button[type=button]")
    if not browser.wait_for_text("Shipped", "h1 .badge"):
        yield "a change by another client is not shown"
    browser.wait_for("its action", "return document.querySelector('[data-action=deliver]') !== null")
    perform_action(browser, "deliver")
    if not browser.wait_for_text("Delivered orders do not change any more", "main"):
        yield "the delivered order does not say that it is final"
    ids = {event.get("requestId") for event in node.call("GET", f"/orders/{order}/history") if event["type"] != "OrderShipped"}
    if len(ids) != 3 or None in ids:
        yield f"the commands did not have a request id each: {ids}"
    yield from time_travel(browser, order)


def time_travel(browser, order):
    browser.run("""const slider = document.getElementById('travel');
        slider.value = 2; slider.dispatchEvent(new Event('input')); slider.dispatchEvent(new Event('change'));""")
    if not browser.wait_for_text("as it was at revision 2", "#past") or not browser.wait_for_text("Paid", "h1 .badge"):
        yield "the slider does not show the order as it was"
    if not browser.becomes("return document.querySelectorAll('[data-action]').length === 0"):
        yield "a past revision has actions"
    if not browser.becomes("return location.hash.includes('revision=2')"):
        yield "the address does not name the revision"
    # The address alone leads to the same view.
    address = browser.call("GET", "/url")
    browser.open("/dashboard")
    browser.call("POST", "/url", {"url": address})
    if not browser.wait_for_text("as it was at revision 2", "#past"):
        yield "a deep link to a revision does not show it"
    browser.click("#past button")
    if not browser.wait_for_text("Delivered", "h1 .badge"):
        yield "the link to the current state is missing"
    for form, text in [("JSON", '"type": "OrderShipped"'), ("Full", "Tracking number")]:
        browser.run("[...document.querySelectorAll('.segments button')].find(it => it.textContent === arguments[0]).click()", form)
        if not browser.wait_for_text(text, ".timeline"):
            yield f"the events as {form} do not say {text}"
    if not browser.becomes("return document.querySelectorAll('.timeline li').length === 4"):
        yield "the timeline does not have the four events"
    browser.run("[...document.querySelectorAll('.timeline a')].find(it => it.textContent === 'revision 3').click()")
    if not browser.wait_for_text("as it was at revision 3", "#past"):
        yield "an event does not lead to the order as it was then"
    before = browser.node.call("GET", f"/orders/{order}/history")[0]["createdAt"]
    browser.navigate(f"#/orders/{order}?asOf={before}")
    if not browser.wait_for_text("as it was at revision 1", "#past"):
        yield "the order is not shown as of a time"
    browser.navigate("#/orders/123")
    if not browser.wait_for_text("There is no such order", "main"):
        yield "an order that does not exist is not said to be missing"


def live(browser):
    """Changes by other clients appear in the open list at once."""
    browser.open("/dashboard")
    browser.wait_for_text("live", "#connection")
    started = time.monotonic()
    order = place(browser.node, "somebody else")
    if not browser.wait_for_text("somebody else", "#orders", timeout_s=10):
        yield "an order of another client does not appear in the list"
    elif time.monotonic() - started > 5:
        yield "an order of another client appears late in the list"
    browser.node.call("POST", f"/orders/{order}/pay", {"paymentMethod": "card"})
    if not browser.wait_for_text("Paid", f"[data-row='{order}']"):
        yield "a payment of another client does not appear in the list"


def hostile_text(browser):
    """Texts of orders are shown as text, and cannot disguise themselves."""
    order = place(browser.node, HOSTILE)
    browser.open("/dashboard")
    if not browser.wait_for_source("&lt;img src=x onerror=") or not browser.wait_for_source(order):
        yield "the customer is not shown as text"
    browser.navigate(f"#/orders/{order}?events=json")
    browser.wait_for_text("OrderCreated", ".timeline")
    if "owned" in browser.call("GET", "/title") or browser.run("return document.images.length"):
        yield "text of an order has become markup"
    parts = browser.call("POST", "/execute/async", {"args": ["live\u202eevil\u200b\u0007 \u2066x"], "script": """
        const done = arguments[1];
        import('/dashboard/dom.js').then(({untrusted}) => done(untrusted(arguments[0]).textContent));"""})
    if parts != "liveU+202EevilU+200BU+0007 U+2066x":
        yield f"invisible characters are shown as {parts!r}"
    # The API accepts joiners in words, where fonts need them; they are invisible.
    joined = place(browser.node, shippingAddress="می\u200cخواهم")
    browser.navigate(f"#/orders/{joined}")
    if not browser.wait_for_text("U+200C", "main"):
        yield "a joiner in a name is not shown"
    long = "n" * 128
    place(browser.node, long)
    browser.navigate("#/orders")
    if not browser.wait_for("the long name", "return document.querySelector(`#orders [title='${arguments[0]}']`) !== null", long):
        yield "a long name has no tooltip with its full text"
    if browser.run("return document.documentElement.scrollWidth > innerWidth || document.querySelector('.scroll').scrollWidth > document.querySelector('.scroll').clientWidth"):
        yield "a long name makes the page wider than the window"


def money_is_exact(browser):
    """Amounts are shown digit by digit, even where a binary floating-point number cannot represent them."""
    items = [{"productId": "p", "quantity": 1, "price": "90071992547409.93"}]
    order = browser.node.call("POST", "/orders", {"customerId": "rich", "items": items})["orderId"]
    browser.open(f"/dashboard#/orders/{order}")
    if not browser.wait_for_text("90,071,992,547,409.93 USD", "main"):
        yield "a large amount is not shown exactly"
    items = [{"productId": "p", "quantity": 3, "price": "30023997515803.31"}, {"productId": "q", "quantity": 7, "price": "0.1"}]
    order = browser.node.call("POST", "/orders", {"customerId": "rich", "items": items})["orderId"]
    browser.navigate(f"#/orders/{order}")
    browser.wait_for_text(order, "h1")
    amounts = browser.run("return [...document.querySelectorAll('.items td[data-column=Amount]')].map(it => it.innerText)")
    if amounts != ["90,071,992,547,409.93 USD", "0.70 USD"]:
        yield f"the amounts of the items are {amounts}"


def seed(node, order_count=MANY):
    """Places orders on several connections with pipelined requests; returns the number placed in time, and the duration."""
    started, placed, lock = time.monotonic(), [0], threading.Lock()
    deadline = started + SEEDING_S

    def requests(customer):
        body = f'{{"customerId":"{customer}","currency":"EUR","items":[{{"productId":"p","quantity":1,"price":"5"}}]}}'
        head = f"POST /orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode() * BATCH

    def work(number):
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.settimeout(60)
            while time.monotonic() < deadline:
                with lock:
                    if placed[0] >= order_count:
                        return
                    placed[0] += BATCH
                connection.sendall(requests(f"many-{number}"))
                received = b""
                while received.count(b"HTTP/1.1 201") < BATCH or not received.endswith(b"}"):
                    received += connection.recv(1 << 20)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - started
    # Wait for the read model, which follows the log.
    until("the orders are counted", lambda: node.call("GET", "/stats")["totalOrders"] >= placed[0])
    return placed[0], took


def count_events(browser):
    """Makes the page count the events that it receives, and record its longest task."""
    browser.run("""window.longest = 0;
        new PerformanceObserver(list => list.getEntries().forEach(it => { longest = Math.max(longest, it.duration); })).observe({type: 'longtask'});""")
    browser.call("POST", "/execute/async", {"args": [], "script": """
        const [done] = arguments;
        window.receivedEvents = 0;
        import('/dashboard/feed.js').then(({feed}) => { feed.addEventListener('events', ({detail}) => { receivedEvents += detail.count; }); done(); });"""})


def search_among_many(browser, order_count=MANY):
    node = browser.node
    needle = place(node, "the needle")
    browser.open("/dashboard#/orders")
    browser.wait_for_text("live", "#connection")
    count_events(browser)
    # The page must stay responsive while events arrive as fast as possible.
    feeding = threading.Thread(target=lambda: totals.extend(seed(node, order_count)))
    totals = []
    feeding.start()
    slowest = 0
    while feeding.is_alive():
        started = time.monotonic()
        browser.run("return document.querySelectorAll('#orders tr').length")
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.5)
    feeding.join()
    placed, took = totals
    if placed < order_count:
        yield f"only {placed} of {order_count} orders could be placed in {SEEDING_S} s"
    try:
        browser.wait_for("the page has received every event", "return receivedEvents >= arguments[0]", placed)
    except AssertionError as error:
        yield str(error)
    if browser.run("return receivedEvents") != placed:
        yield f"the page has received {browser.run('return receivedEvents')} events of {placed}"
    longest = browser.run("return longest") / 1000
    print(f"{placed} orders in {took:.0f} s, {placed / took:.0f} a second: the page answered within {slowest:.2f} s meanwhile, its longest task took {longest:.2f} s")
    if max(slowest, longest) > 5:
        yield f"a fast feed keeps the page from answering for {max(slowest, longest):.1f} s"
    browser.press("/")
    for text, selector, shown in [("the needle", "#orders", needle), (needle, "h1", needle)]:
        browser.navigate("#/orders")
        browser.wait_for("the search", "return document.getElementById('search') !== null && document.querySelectorAll('#orders tr').length > 1")
        browser.press("/")
        browser.type("#search", text)
        started = time.monotonic()
        browser.click(".search button")
        if not browser.wait_for_text(shown, selector):
            yield f"the search for {text} finds nothing among {placed} orders"
        print(f"found {text} in {time.monotonic() - started:.2f} s")
    browser.navigate("#/orders?status=Pending")
    browser.wait_for("a page", "return document.querySelectorAll('#orders tr').length === 50")
    first = browser.text("#orders")
    browser.click("a[rel=next]")
    browser.wait_for("the next page", "return document.querySelectorAll('#orders tr').length === 50 && document.getElementById('orders').innerText !== arguments[0]", first)
    if browser.text("#orders .id") in first:
        yield "the next page begins with an order of the first"
    browser.click("a[rel=prev]")
    if not browser.wait_for_text(first.split("\t")[0].split("\n")[0], "#orders"):
        yield "the link to the first page does not work"
    browser.navigate("#/orders?currency=USD")
    if not browser.wait_for_text("that were scanned", ".pager"):
        yield "further pages are not scanned for a rare currency"
    yield from scanned_again(browser)


def count_requests(browser):
    """The number of requests for the list of orders so far."""
    return browser.run("return performance.getEntriesByType('resource').filter(({ name }) => name.includes('/orders?')).length")


def receive(browser, customer, **more):
    """Places an order, and waits until the page has received its event, and has had the time to react."""
    before = browser.run("return receivedEvents")
    order = place(browser.node, customer, **more)
    browser.wait_for("the event is received", "return receivedEvents > arguments[0]", before)
    time.sleep(A_REACTION_S)
    return order


def scanned_again(browser):
    """Many pages are not scanned again for events of other currencies."""
    browser.run("performance.clearResourceTimings()")
    before = count_requests(browser)
    receive(browser, "of a common currency", currency="EUR")
    if count_requests(browser) != before:
        yield "an order in another currency repeats the scan"
    place(browser.node, "of the rare currency", currency="USD")
    if not browser.wait_for_text("of the rare currency", "#orders"):
        yield "a new order in the scanned currency does not appear"


def hidden_tab(browser):
    """A tab that nobody sees requests nothing, and is up to date when it is shown."""
    browser.open("/dashboard")
    browser.wait_for_text("live", "#connection")
    place(browser.node, "before the tab is hidden")
    browser.wait_for_text("before the tab is hidden", "#orders")
    count_events(browser)
    set_hidden = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
    browser.run(set_hidden, True)
    before = count_requests(browser)
    receive(browser, "while the tab is hidden")
    if count_requests(browser) != before:
        yield "a hidden tab requests the list"
    browser.run(set_hidden, False)
    if not browser.wait_for_text("while the tab is hidden", "#orders"):
        yield "a tab that is shown again is not up to date"
