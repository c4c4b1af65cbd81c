"""Other engines under the load of control's benchmark, each in an environment of its own."""
