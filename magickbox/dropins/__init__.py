"""The processors folder: read, watched, switched, and begun from a template."""
