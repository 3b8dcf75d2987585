"""The routing file: read and checked with exact errors, kept in force while it is being edited."""
