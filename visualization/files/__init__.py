"""What every reader and writer of files shares: errors, safe readers, atomic writes, bundled files."""
