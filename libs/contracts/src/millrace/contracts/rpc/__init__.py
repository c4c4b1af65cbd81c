"""gRPC stubs, generated from proto/ by libs/contracts/generate.py."""
