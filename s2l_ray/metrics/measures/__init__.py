"""One metric a file, found by the file's name (`recipe.registry.METRICS`)."""
