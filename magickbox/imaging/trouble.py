"""What the rendering of one instance may end with, other than a picture."""


class NoPicture(Exception):
    """There is nothing to show; the text says why, without a patient's data."""
