"""The frame of a self-contained page: an HTML document with its style and a content security policy."""

import html
from importlib.resources import files


def html_document(title: str, body: str, *, style: str, policy: str) -> str:
    """Return an HTML document in the colours of ``theme.css``, light or dark as the reader's system is.

    ``title`` is text and is escaped; ``body`` is HTML. ``style`` follows the theme. ``policy``, the
    ``Content-Security-Policy``, has no double quotes.
    """
    theme = (files(__package__) / "theme.css").read_text("utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="minwhisper">
<title>{html.escape(title)}</title>
<style>
{theme}{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
