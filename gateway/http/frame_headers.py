"""The headers of the files in the frame in which the page draws diagrams.

The frame is sandboxed, so it has an origin of its own: its scripts are loaded across origins. Its policy allows no other
script, no request and no frame.
"""

from __future__ import annotations

import re

_FILES = re.compile(r"/static/(?:[0-9a-f]{1,64}(?:-page)?/)?(?:diagram/frame\.(?:html|js)|vendor/mermaid\.js)")

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'; sandbox allow-scripts"
    ),
    "cross-origin-resource-policy": "cross-origin",
}


def frame_headers(path: str) -> dict[str, str]:
    """Return the headers of a path that differ from those of other paths."""
    return _HEADERS if _FILES.fullmatch(path) else {}
