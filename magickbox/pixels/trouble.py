"""What the conversion of one file may end with, other than a file."""


class Impossible(Exception):
    """This file cannot be brought into that transfer syntax; the text says why, without a patient's data."""
