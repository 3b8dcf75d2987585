"""How instances become a job: decided, planned, and born by one rename (section 8, steps 6 to 9)."""
