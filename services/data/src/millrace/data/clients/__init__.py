"""Where the bytes come from: files in allowed folders, and public hosts."""
