"""Ingests files under a contract into immutable, content-hashed dataset versions."""
