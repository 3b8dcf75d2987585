"""Folders as destinations: instances become files, whole or not at all."""
