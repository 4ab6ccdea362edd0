"""Keyboard, phone layout, dark theme and accessibility of every view; and screenshots."""

import os

from .orders import place

DOWN_J, UP_K, ENTER, ESCAPE = "j", "k", "\ue007", "\ue00c"
HAS_NO_DIALOG = "return document.querySelector('dialog') === null"
PHONE = (390, 844)
DESKTOP = (1280, 860)


def views_of(node):
    order = place(node, "an ordinary customer", shippingAddress="1 Main Street, Springfield")
    node.call("POST", f"/orders/{order}/pay", {"paymentMethod": "card", "paymentReference": "pi_3"})
    node.call("POST", f"/orders/{order}/ship", {"trackingNumber": "1Z999AA10123456784", "carrier": "UPS"})
    return {
        "orders": ("#/orders", "an ordinary customer"), "order": (f"#/orders/{order}?events=full", "1Z999AA10123456784"),
        "past": (f"#/orders/{order}?revision=1&events=json", "as it was at revision 1"),
        "new": ("#/new", "Place the order"), "operations": ("#/operations", "Refusals per second"),
        "dead-letters": ("#/dead-letters", "dead letters"), "server": ("#/server", "Limits"), "missing": ("#/nowhere", "There is no such view"),
    }


def every_view(browser, pictures):
    """Each view is complete, accessible and no wider than the window, on a desktop and a phone, light and dark."""
    browser.open("/dashboard")
    for name, (address, text) in views_of(browser.node).items():
        browser.resize(*DESKTOP)
        browser.prefer_dark(False)
        browser.navigate(address)
        if not browser.wait_for_text(text, "main"):
            yield f"the view {name} does not say {text}"
        for look, size, is_dark in [("light", DESKTOP, False), ("dark", DESKTOP, True), ("phone", PHONE, False), ("phone-dark", PHONE, True)]:
            browser.resize(*size)
            browser.prefer_dark(is_dark)
            # A change of colours takes a moment.
            browser.run("document.getAnimations().forEach(it => it.finish())")
            if browser.run("return document.documentElement.scrollWidth > innerWidth"):
                yield f"{name}, {look}: wider than the window"
            for violation in browser.violations():
                yield f"{name}, {look}: {violation}"
            if pictures:
                browser.screenshot(os.path.join(pictures, f"{name}-{look}.png"))
        yield from (f"{name}: {error}" for error in browser.errors())
    browser.resize(*DESKTOP)
    browser.prefer_dark(False)


def page_weight(browser):
    """The bytes that a first visit loads, and the time of the first paint."""
    browser.open("/dashboard")
    browser.wait_for_text("live", "#connection")
    files = browser.run("return performance.getEntriesByType('resource').filter(it => it.name.includes('/dashboard/')).map(it => it.encodedBodySize)")
    paint = browser.wait_for("the first paint", "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"{len(files)} files, {sum(files)} bytes; the first paint after {paint:.0f} ms")
    if not 20_000 < sum(files) < 100_000:
        yield f"the console loads {sum(files)} bytes"
    # Generous, for a busy machine.
    if paint > 1000:
        yield f"the first paint comes after {paint:.0f} ms"


def theme(browser):
    back = "return getComputedStyle(document.body).backgroundColor"
    is_light, is_other = f"{back} === arguments[0]", f"{back} !== arguments[0]"
    browser.open("/dashboard")
    light = browser.run(back)
    browser.prefer_dark(True)
    if not browser.becomes(is_other, light):
        yield "the console does not follow the system into the dark"
    browser.click("#theme")
    if not browser.becomes(is_light, light):
        yield "the switch does not win over the system"
    browser.open("/dashboard#/server")
    if not browser.becomes(is_light, light):
        yield "the choice of the theme is forgotten"
    browser.click("#theme")
    browser.prefer_dark(False)
    if not browser.becomes(is_other, light):
        yield "the switch does not make the console dark"
    browser.click("#theme")


def keyboard(browser):
    for name in ("one", "two", "three"):
        place(browser.node, name)
    browser.open("/dashboard")
    browser.wait_for_text("three", "#orders")
    is_focused = "return (document.activeElement.closest('[data-row]')?.innerText ?? '').includes(arguments[0])"
    browser.press(DOWN_J)
    if not browser.becomes(is_focused, "three"):
        yield "j does not go to the first row"
    browser.press(DOWN_J, DOWN_J, UP_K)
    if not browser.becomes(is_focused, "two"):
        yield "j and k do not go from row to row"
    if browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "none":
        yield "the focus is not visible"
    # A new order does not take the focus away.
    place(browser.node, "four")
    browser.wait_for_text("four", "#orders")
    if not browser.run(is_focused, "two"):
        yield "a new order takes the focus away"
    browser.press(ENTER)
    if not browser.wait_for_text("Order ", "h1") or not browser.wait_for_text("two", "main"):
        yield "Enter does not open the row"
    browser.press("?")
    if not browser.wait_for_text("Keyboard shortcuts", "dialog"):
        yield "? does not show the keys"
    for violation in browser.violations():
        yield f"the help: {violation}"
    browser.press(ESCAPE)
    if not browser.becomes(HAS_NO_DIALOG):
        yield "Escape does not close the help"
    browser.press("g", "p")
    if not browser.wait_for_text("Operations", "h1"):
        yield "g p does not go to the operations"
    browser.press("/")
    if not browser.becomes("return document.activeElement.id === 'search'"):
        yield "/ does not go to the search field"


def dialog(browser):
    order = place(browser.node, "for a dialog")
    browser.open(f"/dashboard#/orders/{order}")
    browser.click("[data-action=pay]")
    for is_dark in (False, True):
        browser.prefer_dark(is_dark)
        for violation in browser.violations():
            yield f"a dialog{' in the dark' if is_dark else ''}: {violation}"
    browser.prefer_dark(False)
    browser.press(ESCAPE)
    if not browser.becomes(HAS_NO_DIALOG):
        yield "Escape does not close a dialog"
