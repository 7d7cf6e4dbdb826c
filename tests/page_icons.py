"""Draw the icons of the installed page in `static/icons`, from its favicon: `python -m tests.page_icons`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import ViewportSize

from tests.page_stage import running_browser

STATIC = Path(__file__).parents[1] / "static"
ICONS = {
    "icon-192.png": (192, 1.0, "transparent"),
    "icon-512.png": (512, 1.0, "transparent"),
    "maskable-512.png": (512, 0.8, "#10312c"),
}
"""The size in px, the part of it that the drawing fills (a system may crop the rest), and the color behind it."""


async def main() -> None:
    """Write the icons."""
    drawing = (STATIC / "favicon.svg").read_text("utf-8")
    async with running_browser() as browser:
        for name, (size, part, color) in ICONS.items():
            page = await browser.new_page(viewport=ViewportSize(width=size, height=size))
            style = f"margin:0;display:grid;place-items:center;height:100vh;background:{color}"
            sized = drawing.replace("<svg ", f'<svg width="{size * part}" height="{size * part}" ', 1)
            await page.set_content(f'<body style="{style}">{sized}</body>')
            await page.screenshot(path=STATIC / "icons" / name, omit_background=True)


if __name__ == "__main__":
    asyncio.run(main())
