"""One file format a file, found by the file's name (`recipe.registry.FORMATS`)."""
