"""Capture of layers' outputs: probes, the records they collect, edits, plans and files of records."""
