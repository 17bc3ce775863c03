"""A page in Chromium: its window, its errors and its requests."""

import shutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")
QUIET = (  # the browser makes no requests of its own
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

READY = "async () => { await Promise.all([...document.images].map((image) => image.decode().catch(() => {}))); }"


class Opened:
    """A page in a window, with its errors and requests."""

    def __init__(self, browser, path, width=1280, scheme="light", script=""):
        self.problems, self.requests = [], []
        self.tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.tab.add_init_script(script)
        self.tab.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url[:100]}"))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.evaluate(READY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tab.close()

    def wait(self, condition):
        """Wait until a JavaScript condition holds."""
        self.tab.wait_for_function(f"() => {condition}")  # a bare expression would need eval, which pages forbid

    def evaluate(self, script):
        return self.tab.evaluate(script)
