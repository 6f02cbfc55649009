"""One row shape a file, found by the file's name (`recipe.registry.SHAPES`)."""
