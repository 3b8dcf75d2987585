"""One run of a processor: its folder, what guards INPUT, and its way from START to PROCESSED (steps 10 to 12)."""
