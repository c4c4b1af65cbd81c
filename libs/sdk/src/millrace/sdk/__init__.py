"""What users of Millrace import: publish, client, flows, local mode, the embedded stack and the `millrace` command."""
