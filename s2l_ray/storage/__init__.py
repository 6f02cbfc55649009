"""Where everything lies: files on any storage URI, and what is kept there under fingerprints.

files      files on a folder, s3://, gs://: whole or not at all
retrying   calls to an object store that are made again
artifacts  what a stage made, under the fingerprint of what decides its content
secrets    keys and passwords in URIs: refused where they come in, starred where a text goes out
links      links that lead out of a folder
hub        the commit that a name on the Hugging Face hub means
"""
