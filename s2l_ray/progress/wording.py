"""Numbers as people read them."""

from collections.abc import Mapping


def counts(rows: Mapping[str, int]) -> str:
    """Return numbers of rows as people read them: 12,000 read, 3 quarantined."""
    return ", ".join(f"{count:,} {what}" for what, count in rows.items())


def clock(seconds: float) -> str:
    """Return a duration as people read it: 42 s, 3 m 05 s, 1 h 02 m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
