"""What readers and writers of files share: errors, safe readers, atomic writes, the bundled files."""
