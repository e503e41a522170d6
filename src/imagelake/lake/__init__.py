"""The tables: create, append, scan, take, commit, versions. Only this room knows the table format."""
