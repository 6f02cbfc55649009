"""One trainer a file, found by the file's name (`recipe.registry.TRAINERS`)."""
