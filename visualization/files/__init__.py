"""What every reader and writer of files shares: errors, safe readers, atomic writes, the bundled files."""
