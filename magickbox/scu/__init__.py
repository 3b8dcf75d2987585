"""The box as SCU: associations to destinations, C-STORE and C-ECHO."""
