"""Pictures of instances: worker processes that render them, and what is kept of their work."""
