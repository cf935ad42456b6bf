"""A picture of a conformance report, to be shown on a page."""

from __future__ import annotations

from veyra.testing.conformance import Report

_LEFT = "veyra conformance"
_CHARACTER = 6.6
"""Width of a character, in units of the picture; the text is stretched to it, whatever the font."""


def badge(report: Report) -> str:
    """Return an SVG that says how many of the checks that apply were passed. The same report gives the same bytes."""
    passed, failed = report.count("passed"), report.count("failed")
    right = f"{passed} of {passed + failed} checks"
    colour = "#2e7d32" if report.ok else "#b3261e"
    left_width, right_width = (round(_CHARACTER * len(text)) + 12 for text in (_LEFT, right))
    width = left_width + right_width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{_LEFT}: {right}">'
        f"<title>{_LEFT}: {right}</title>"
        f'<rect width="{left_width}" height="20" fill="#444"/>'
        f'<rect x="{left_width}" width="{right_width}" height="20" fill="{colour}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{_text(_LEFT, left_width / 2, left_width)}{_text(right, left_width + right_width / 2, right_width)}"
        "</g></svg>\n"
    )


def _text(text: str, middle: float, width: int) -> str:
    return f'<text x="{middle:g}" y="14" textLength="{width - 12}">{text}</text>'
