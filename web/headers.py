"""The headers of every answer: a browser does no more for a page of ours than the page needs."""

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
"""Content Security Policy, level 3: no script, style or handler within a page, and no sink for text (XSS)."""

EVERY_ANSWER = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

VIEWER_ANSWER = {
    **EVERY_ANSWER,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"""Of the viewer's host: an image that somebody opens as a page is no page of that host."""

ENCRYPTED = {"Strict-Transport-Security": "max-age=63072000"}
"""Beside those, where the pages are served over TLS."""

PAGE = {"Cache-Control": "no-store"}
"""A page of a person stays in no cache: not of a proxy, and not of a browser that the next person uses."""

STREAM = {**PAGE, "Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"}
"""What comes bit by bit: no proxy gathers it."""

ASSET = {"Cache-Control": "public, max-age=31536000, immutable"}
"""The name of an asset changes with its content."""

SIGNED_OUT = {"Clear-Site-Data": '"cache", "storage"'}

"""Not `cookies`: that word takes those of every host below the same domain."""

LOCKED = {"Clear-Site-Data": '"cache"'}


def with_images_of(origin: str) -> dict[str, str]:
    """Of a page of ours that shows an image of another host."""
    policy = {**_POLICY, "img-src": f"'self' {origin}"}
    return {"Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items())}


def saved_as(name: str, content_type: str) -> dict[str, str]:
    """Of a file that a person saves, and that no browser shows."""
    return {**PAGE, "Content-Type": content_type, "Content-Disposition": f'attachment; filename="{name}"'}
