"""Pages in a real headless Chromium, driven through its DevTools protocol over a pipe.

    with chromium() as browser:
        page = browser.open(file.as_uri(), theme="dark", width=390)
        assert page.complaints == [] and page.outside == [] and page.illegible() == []

Chromium looks up no names and opens no connections beyond this machine; requests of a page to elsewhere are recorded.
It ends when the pipe closes, so also when the tests are killed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

Theme = Literal["light", "dark"]
Pixels = NDArray[np.uint8]  # [height, width, 3]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-proxy-server"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--disable-breakpad", "--mute-audio", "--hide-scrollbars", "--remote-debugging-pipe"),
    "--force-color-profile=srgb",
)
NOWHERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
PATIENCE_S = 60.0  # for one answer, on a busy machine
QUIET_LEVELS = ("log", "debug", "info", "verbose", "dir", "timeEnd", "startGroup", "endGroup")
LEGIBLE = 4.5  # contrast ratio that WCAG 2 asks of text, level AA


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser for the length of the block; skip the test if this machine has none."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin", "/usr/local/bin"))  # in case PATH lacks these
    program = next((path for name in NAMES if (path := shutil.which(name, path=places))), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(NAMES)} is installed (Debian: chromium)")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # Chromium reads commands from descriptor 3 and answers on 4
        piped = ("sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh")
        process = subprocess.Popen(
            [*piped, program, *FLAGS, NOWHERE, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        try:
            yield Browser(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=PATIENCE_S)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


class Browser:
    """A running Chromium: commands go out, answers and events come in, one test at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout
        self._out, self._in = process.stdin, process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._in, selectors.EVENT_READ)
        self._numbers = itertools.count(1)
        self._rest = b""
        self._pages: dict[str, Page] = {}

    def open(
        self, url: str, *, theme: Theme = "light", width: int = 1200, height: int = 900, print_: bool = False
    ) -> Page:
        """Load `url` in a new page and return it; sizes are in CSS pixels."""
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.command(f"{domain}.enable")
        page.show(theme=theme, width=width, height=height, print_=print_)
        return page.go(url)

    def forget(self, page: Page) -> None:
        """Close a page."""
        self.command("Target.closeTarget", targetId=page.target)
        self._pages.pop(page.session, None)

    def command(self, method: str, *, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it go to their pages."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._out.write(json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_S
        while (answer := self.take(deadline)).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def take(self, deadline: float) -> dict[str, Any]:
        """Return the next message. Raises `TimeoutError` where none comes until `deadline`."""
        while b"\0" not in self._rest:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self._in.fileno(), 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message and (page := self._pages.get(message.get("sessionId", ""))):
            page.note(message["method"], message["params"])
        return message


@dataclass
class Page:
    """A page, with all its complaints and requests since it was opened."""

    browser: Browser
    session: str
    target: str
    complaints: list[str] = field(default_factory=list)  # warnings and errors of the console, uncaught exceptions
    requests: list[str] = field(default_factory=list)  # addresses, data: and blob: ones included
    _loaded: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.forget(self)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol about this page."""
        return self.browser.command(method, session=self.session, **params)

    def note(self, event: str, params: dict[str, Any]) -> None:
        """Record an event of the DevTools protocol."""
        if event == "Runtime.consoleAPICalled" and params["type"] not in QUIET_LEVELS:
            words = " ".join(str(value.get("value", value.get("description", ""))) for value in params["args"])
            self.complaints.append(f"{params['type']}: {words}")
        elif event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(f"uncaught: {details.get('exception', {}).get('description', details['text'])}")
        elif event == "Log.entryAdded" and params["entry"]["level"] not in QUIET_LEVELS:
            entry = params["entry"]
            self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}".rstrip())
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.requests.append(params["url"])
        elif event == "Page.loadEventFired":
            self._loaded = True

    def go(self, url: str) -> Page:
        """Load another address in this page and return the page."""
        self._loaded = False
        answer = self.command("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        deadline = time.monotonic() + PATIENCE_S
        while not self._loaded:
            self.browser.take(deadline)
        self.evaluate("document.fonts.ready.then(() => true)")
        return self

    def show(self, *, theme: Theme = "light", width: int = 1200, height: int = 900, print_: bool = False) -> None:
        """Set the theme and the size of the window, or show the page as printed."""
        scheme = [{"name": "prefers-color-scheme", "value": theme}]
        self.command("Emulation.setEmulatedMedia", media="print" if print_ else "", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression or of its promise. An exception in it fails the test."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def eventually(self, expression: str, patience_s: float = PATIENCE_S) -> Any:
        """Return the value of a JavaScript expression once it is true; fail after `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never true: {expression}\n{self.text[:2000]}\n{self.complaints}"
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Click the last element that `selector` matches, once there is one."""
        element = f"[...document.querySelectorAll({json.dumps(selector)})].at(-1)"
        self.eventually(f"!!{element}")
        self.evaluate(f"{element}.click()")

    @property
    def text(self) -> str:
        """Return the text that a reader can see or select, from top to bottom."""
        return str(self.evaluate("document.body.innerText"))

    @property
    def outside(self) -> list[str]:
        """Return the requests to other machines, so without those to loopback, files and data."""
        return [url for url in self.requests if not _is_inside(url)]

    @property
    def overflow_px(self) -> int:
        """Return by how much the page is wider than its window: 0 if nobody has to scroll sideways."""
        return int(self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def pictures(self) -> list[dict[str, Any]]:
        """Return each visible `img` and inline `svg`: `alt`, `ok` (loaded, or drawn), `behind` (rgb) and its place.

        The place is `x`, `y`, `width` and `height` on the page. The `alt` of an `svg` is its `aria-label` or `title`.
        An `svg` inside a link or button is an icon and is left out.
        """
        pictures: list[dict[str, Any]] = self.evaluate(f"(() => {{ {_COLOURS} {_PICTURES} }})()")
        return pictures

    def illegible(self, least: float = LEGIBLE) -> list[str]:
        """Return the visible texts whose contrast with their background is below `least`, worst first."""
        texts = self.evaluate(f"(() => {{ {_COLOURS} {_TEXTS} }})()")
        bad = {(contrast(text["ink"], text["behind"]), text["text"]) for text in texts}
        return [f"{ratio:.2f}: {text}" for ratio, text in sorted(bad) if ratio < least]

    def shot(self, selector: str | None = None) -> Pixels:
        """Return the window as pixels, or the first element that `selector` matches, anywhere on the page."""
        return _pixels(self.png(selector))

    def png(self, selector: str | None = None, *, whole: bool = False) -> bytes:
        """Return the same as a PNG, to look at; with `whole`, all of a long page."""
        clip: dict[str, Any] = {}
        if selector or whole:
            box = f"document.querySelector({json.dumps(selector or 'html')}).getBoundingClientRect()"
            place = (
                f"(b => ({{x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height, scale: 1}}))({box})"
            )
            clip = {"clip": self.evaluate(place), "captureBeyondViewport": True}
        return base64.b64decode(self.command("Page.captureScreenshot", format="png", **clip)["data"])

    def pdf(self) -> bytes:
        """Return the page as printed, a PDF."""
        return base64.b64decode(self.command("Page.printToPDF", printBackground=False)["data"])


def contrast(one: Any, other: Any) -> float:
    """Return the contrast ratio, from 1 to 21, of two sRGB colours (r, g, b) of 0 to 255, as WCAG 2 defines it."""
    light, dark = sorted((_luminance(np.asarray(one)), _luminance(np.asarray(other))), reverse=True)
    return float((light + 0.05) / (dark + 0.05))


def ink_contrast(pixels: Pixels) -> float:
    """Return the contrast of a picture's strongest ink, one pixel in 500, with its commonest colour."""
    codes, counts = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_counts=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    ground = _luminance(colours[counts.argmax()])
    ink = _luminance(colours)
    ratios = (np.maximum(ink, ground) + 0.05) / (np.minimum(ink, ground) + 0.05)
    order = np.argsort(ratios)[::-1]
    enough = np.searchsorted(np.cumsum(counts[order]), counts.sum() / 500)
    return float(ratios[order][min(enough, len(order) - 1)])


def _luminance(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """Return the relative luminance of sRGB colours, shape [..., 3] of 0 to 255."""
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _pixels(png: bytes) -> Pixels:
    share = matplotlib.image.imread(io.BytesIO(png), format="png")[..., :3]
    return np.rint(share * 255).astype(np.uint8)


def _is_inside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "file", "about") or parts.hostname in ("127.0.0.1", "localhost", "::1")


_COLOURS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = colour => {  // any way CSS can write a colour
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = '#000'; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] / 255 + below[i] * (1 - top[3] / 255));
const scheme = getComputedStyle(document.documentElement).colorScheme;
const wantsDark = matchMedia('(prefers-color-scheme: dark)').matches;
const isDark = scheme.includes('dark') && (wantsDark || !scheme.includes('light'));
const behind = element => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3]) layers.push(colour);
    if (colour[3] === 255) break;
  }
  return layers.reduceRight((below, top) => over(top, below), isDark ? [18, 18, 18] : [255, 255, 255]);
};
const isSeen = element => element.checkVisibility({opacityProperty: true, visibilityProperty: true});
"""

_TEXTS = """
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
  if (!text || !isSeen(element) || element.closest('script, style, title, desc')) continue;
  const style = getComputedStyle(element), ground = behind(element);
  const ink = over(rgba(element instanceof SVGElement ? style.fill : style.color), ground);
  found.push({text: text.slice(0, 60), ink, behind: ground});
}
return found;
"""

_PICTURES = """
return [...document.querySelectorAll('img, svg:not(a svg, button svg, svg svg)')].filter(isSeen).map(p => {
  const box = p.getBoundingClientRect(), isImage = p.tagName === 'IMG';
  return {
    x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height,
    alt: isImage ? p.alt : p.getAttribute('aria-label') || p.querySelector('title')?.textContent || '',
    ok: isImage ? p.complete && p.naturalWidth > 0 : p.childElementCount > 0,
    behind: behind(p),
  };
});
"""
