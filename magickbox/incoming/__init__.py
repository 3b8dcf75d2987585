"""What a receiver writes: one folder an association, and what it could not understand (section 8, steps 1 to 5)."""
