"""Do folders and ledger agree: reads only, and says where every instance is."""
