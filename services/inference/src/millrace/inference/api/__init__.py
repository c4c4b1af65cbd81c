"""gRPC in: inference's own service, and the Open Inference Protocol."""
