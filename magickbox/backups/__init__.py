"""Backups of a box, and the way back from them."""
