"""Instances in other transfer syntaxes: worker processes, and what they do."""
