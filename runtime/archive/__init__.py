"""Archives of the log: files of its events, in lines of JSON, which `ludoteca log export` writes
and `ludoteca log import` puts into a database."""
