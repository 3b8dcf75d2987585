"""Measures, side by side and in one run, how fast this box and other programs take what is sent to them."""
