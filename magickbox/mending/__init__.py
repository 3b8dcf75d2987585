"""What is done after a kill, or when the ledger is gone: resumed from what is on disk, nothing is sent."""
