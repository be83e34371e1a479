"""Reading and writing files: safe readers, atomic writes, errors in one sentence, bundled files."""
