"""One selector a file, found by the file's name (`recipe.registry.SELECTORS`)."""
