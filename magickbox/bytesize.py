"""Sizes as people write them (``16G``), and as they are shown to people (``16 GB``)."""

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def in_bytes(value: object) -> int:
    """The bytes that a text such as ``16G`` says."""
    text = str(value)
    number = text.rstrip("KMGT")
    return int(number) * UNITS[text[len(number) :]]


def shown(size: float) -> str:
    """Bytes for a person: ``2 GB``, ``1.5 GB``, ``300 MB``."""
    for unit, factor in (("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"
