"""What the API says, as pydantic models with examples."""
