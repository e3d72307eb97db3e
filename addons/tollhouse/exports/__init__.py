"""The records of calls as other systems take them: it speaks to finance, to security, and to whoever reads the lines.

record   a call as Redis keeps it
pages    the records of all tenants, page by page, and how far an export has come
target   a file that is there whole or not at all
ocsf     events for a SIEM
focus    rows of FOCUS, for finance
bill     what a call came to, unit by unit
found    the records of one call
explained  its road in sentences
tables   rows as CSV and Parquet
guarded  text that no spreadsheet runs
published  the published schemas of what is given out
schemas/   their files
"""
