"""The command line: one module a command, no decision is taken here."""
