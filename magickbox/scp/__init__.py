"""The box as SCP: the one port, its associations, what is accepted, C-STORE and C-ECHO."""
