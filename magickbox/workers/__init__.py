"""Worker processes for what may end a process: one mechanism, whatever they do."""
