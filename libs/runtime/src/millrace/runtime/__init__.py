"""How every Millrace service runs: settings, Kafka, Postgres, gRPC, auth, telemetry, tasks."""
