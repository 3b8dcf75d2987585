"""Where processors run; each engine implements ``magickbox.engine.Engine``."""
