"""The one reader and writer of weight files."""
