"""Pixel data: what a header says of them, and the codecs that decode and encode frames."""
