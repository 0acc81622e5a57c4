"""Report of runs that one can send: what it says as plain data, as an HTML page, as Markdown."""
