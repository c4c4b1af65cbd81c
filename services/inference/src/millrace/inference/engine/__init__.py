"""Models as they are loaded, asked and watched; nothing here knows gRPC or Kafka."""
