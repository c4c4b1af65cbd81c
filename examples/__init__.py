"""Jobs that show how Millrace is used."""
