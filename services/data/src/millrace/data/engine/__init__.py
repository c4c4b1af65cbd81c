"""Contracts compiled to SQL, and the one scan that splits a file by them."""
