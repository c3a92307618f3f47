"""What others send as files, read into facts. Nothing here knows a table."""
