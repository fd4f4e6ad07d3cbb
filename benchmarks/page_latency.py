# SPDX-License-Identifier: Apache-2.0
"""From a key press in a browser to the first frame that shows it, in a running page.

Start a simulator in realtime and ``hydra_web``, let both idle, then:
``python benchmarks/page_latency.py http://127.0.0.1:8080/``. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import time

from playwright.sync_api import Page, sync_playwright

# In the page: the time from each press to the first drawn frame of another camera position.
WATCH = """() => {
  window.delays = [];
  const image = document.getElementById("image");
  let pressed = null, still = null;
  window.addEventListener("keydown", (event) => {
    if (event.code !== "KeyW" || event.repeat) return;
    pressed = performance.now();
    still = image.dataset.position;
  }, true);
  new MutationObserver(() => {
    if (pressed === null || image.dataset.position === still) return;
    window.delays.push(performance.now() - pressed);
    pressed = null;
  }).observe(image, { attributes: true, attributeFilter: ["data-position"] });
}"""
STILL = 40  # frames of one position, more than two chunks: all that was commanded has passed
LONGEST = 1.2  # s of random waiting, so that presses fall anywhere into a chunk
PATIENCE = 30.0  # s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="of the page, as hydra_web printed it")
    parser.add_argument("--presses", type=int, default=20, help="how many are measured")
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        page.goto(options.address)
        delays = measure(page, options.presses)
        factor = page.inner_text("#now-factor")
        browser.close()
    delays.sort()
    print(
        f"{len(delays)} presses: median {statistics.median(delays):.2f} s, "
        f"least {delays[0]:.2f} s, most {delays[-1]:.2f} s; real-time factor at the end {factor}, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def measure(page: Page, presses: int) -> list[float]:
    """Press the key for forward so many times; return the delays in seconds."""
    page.wait_for_function("() => Number(document.getElementById('image').dataset.frames) > 20")
    page.evaluate(WATCH)
    for count in range(1, presses + 1):
        wait_for_standstill(page)
        time.sleep(random.uniform(0.0, LONGEST))
        page.keyboard.down("w")
        page.wait_for_function(f"() => window.delays.length >= {count}", timeout=1000 * PATIENCE)
        page.keyboard.up("w")
        print(f"{count}: {page.evaluate('() => window.delays.at(-1)') / 1000:.2f} s", flush=True)
    return [delay / 1000 for delay in page.evaluate("() => window.delays")]


def wait_for_standstill(page: Page) -> None:
    position, since = None, 0
    while True:
        now = page.get_attribute("#image", "data-position")
        frames = int(page.get_attribute("#image", "data-frames"))
        if now != position:
            position, since = now, frames
        if frames - since >= STILL:
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main()
