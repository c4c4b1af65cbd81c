"""The embedded stack: a real PostgreSQL, a real Kafka and the seven services, in one folder on one machine."""
