"""From files to conversations: no torch, no Ray, no transformers.

    list_files -> scan_file -> plan_units -> read_unit -> to_conversation

listing    which files a path, folder, glob or storage URI means, and what their endings say
streams    stored bytes, decompressed chunks and lines, in bounded memory
scanning   one pass over a file: its content hash, its number of rows, and where to seek
units      cut the files into units of rows, the work of one task
reading    the rows of one unit; a bad row is a row with a reason, never an exception
parsing    one line or value -> a raw row, with every way it can be bad
parquet    Parquet schemas and batches
typed      rows of Parquet files with their own types
formats    a row's dict -> a conversation, for the four formats that people fine-tune on
accounting which rows become examples; every row is accounted for
originals  the rows as they came, to give back the chosen ones unchanged
hub        a Hugging Face data set as Parquet files in the storage
reasons    why a row is quarantined
"""
