"""The GraphPipe schema as code. Made from graphpipe.fbs by scripts/graphpipe_schema.py: do not edit."""
