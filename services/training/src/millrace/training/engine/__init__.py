"""The compute: fitting, exporting, scoring, bounding; no database, no network."""
